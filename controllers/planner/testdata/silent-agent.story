The agent on b is gone, without a word. Its node is out of order, and there is room for one.

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

> agent b down
    nothing changes

> config default min-ready=0 timeout=60 resync=60
    default-a1fb110ca3 is recorded as number 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 3 nodes run revision default-a1fb110ca3; 3 nodes follow when fewer than 1 are out of order, as node b is (since 12:00:00)
        Reconciling=True WaitingForNodes (since 12:00:00)

> wait 1h
    nothing changes

> agent b up
    a: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 3 nodes run revision default-a1fb110ca3; waiting for a; 2 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 13:01:00

> run
    --- 13:00:00
    b: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 3 nodes run revision default-a1fb110ca3; waiting for b; 1 node follows (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 13:01:00
    --- 13:00:00
    c: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 2 of 3 nodes run revision default-a1fb110ca3; waiting for c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 13:01:00
    --- 13:00:00
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-a1fb110ca3 (since 13:00:00)
