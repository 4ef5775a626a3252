An agent that says nothing is a failure after the time that a node has.

> node a
> node b
> config default timeout=60
    default-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets default-fe352139b3 of generation 1
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision default-fe352139b3; waiting for a, b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:01:00

> agents synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-fe352139b3 (since 12:00:00)

> wait 1h
> config default timeout=60 resync=60
    default-a1fb110ca3 is recorded as number 2
    a: gets default-a1fb110ca3 of generation 2
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 2 nodes run revision default-a1fb110ca3; waiting for a; 1 node follows (since 13:00:00)
        Reconciling=True RollingOut (since 13:00:00)
    looks again at 13:01:00

> wait 59s
    looks again at 13:01:00
    nothing changes

> wait 1s
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 1; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolloutHalted: 1 node failed with revision default-a1fb110ca3: TimedOut on a: not in sync after 1m0s; the agent has not reported since it was given revision default-a1fb110ca3; 1 node keeps what it has; change the settings, or the annotation serviceproxy.io/retry to try again (since 13:00:00)
        Stalled=True RolloutHalted (since 13:01:00)
        failed node a: TimedOut: not in sync after 1m0s; the agent has not reported since it was given revision default-a1fb110ca3

It was only slow. The rollout stays halted until somebody has looked at it.

> agents synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 1; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolloutHalted: 1 node failed with revision default-a1fb110ca3: TimedOut on a: not in sync after 1m0s; the agent has not reported since it was given revision default-a1fb110ca3; 1 node keeps what it has; change the settings, or the annotation serviceproxy.io/retry to try again (since 13:00:00)
        Stalled=True RolloutHalted (since 13:01:00)
        failed node a: TimedOut: not in sync after 1m0s; the agent has not reported since it was given revision default-a1fb110ca3

> retry default again
    b: gets default-a1fb110ca3 of generation 2
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 2 nodes run revision default-a1fb110ca3; waiting for b (since 13:00:00)
        Reconciling=True RollingOut (since 13:01:00)
    looks again at 13:02:00

> run
    --- 13:01:00
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 2 of 2 nodes run revision default-a1fb110ca3; waiting for b (since 13:00:00)
        Reconciling=True RollingOut (since 13:01:00)
    looks again at 13:01:10
    --- 13:01:10
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-a1fb110ca3 (since 13:01:10)
