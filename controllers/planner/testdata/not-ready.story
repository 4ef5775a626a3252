A Node that is not Ready for a moment is waited for, one that stays away is not.

> node a
> node b
> node c
> config default min-ready=0 timeout=60
    default-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets default-fe352139b3 of generation 1
    c: gets default-fe352139b3 of generation 1
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 3 nodes run revision default-fe352139b3; waiting for a, b, c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:01:00

> agents synced
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-fe352139b3 (since 12:00:00)

> wait 1h
> node b NotReady
> wait 10s
> config default min-ready=0 timeout=60 resync=60
    default-a1fb110ca3 is recorded as number 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 1, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 3 nodes run revision default-a1fb110ca3; waiting for b, where the Node is not Ready, up to 1m0s; 2 nodes follow when fewer than 1 are out of order, as node b is (since 13:00:10)
        Reconciling=True WaitingForNodes (since 13:00:10)
    looks again at 13:01:00

There is room for one node out of order, and b is. After its time it does not count any more, and gets the change as well.

> wait 50s
    a: gets default-a1fb110ca3 of generation 2
    b: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 1, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 3 nodes run revision default-a1fb110ca3; waiting for a; 1 node follows; not waiting for b, where the Node is not Ready (since 13:00:10)
        Reconciling=True RollingOut (since 13:00:10)
    looks again at 13:02:00

> agent a synced
    c: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 1, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 3 nodes run revision default-a1fb110ca3; waiting for c; not waiting for b, where the Node is not Ready (since 13:00:10)
        Reconciling=True RollingOut (since 13:00:10)
    looks again at 13:02:00

> agent c synced
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 1, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 3 nodes run revision default-a1fb110ca3; not waiting for b, where the Node is not Ready (since 13:01:00)

When it comes back it has the time that every node has, and if it does not use it, it has failed.

> wait 1h
> node b
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 2 of 3 nodes run revision default-a1fb110ca3; waiting for b (since 14:01:00)
        Reconciling=True RollingOut (since 14:01:00)
    looks again at 14:02:00

> wait 1m
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 1; kstatus Failed
        Ready=False NodesFailed: 1 of 3 nodes failed: TimedOut on b: not in sync after 1m0s; the agent has not reported since it was given revision default-a1fb110ca3 (since 14:01:00)
        Stalled=True NodesFailed (since 14:02:00)
        failed node b: TimedOut: not in sync after 1m0s; the agent has not reported since it was given revision default-a1fb110ca3

> agent b synced
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-a1fb110ca3 (since 14:02:00)
