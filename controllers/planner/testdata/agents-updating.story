While the agents are being updated themselves no node changes: nobody could say what a failure comes from.

> node a
> node b
> config default at-once
    default-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets default-fe352139b3 of generation 1
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision default-fe352139b3; waiting for a, b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-fe352139b3 (since 12:00:00)

> agents updating the agents are being updated, 1 of 2 nodes has the new one
> config default at-once resync=60
    default-a1fb110ca3 is recorded as number 2
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 2 nodes run revision default-a1fb110ca3; 2 nodes follow later: the agents are being updated, 1 of 2 nodes has the new one (since 12:00:00)
        Reconciling=True WaitingForNodes (since 12:00:00)

A node that joins has nothing to lose, and its new agent is not ready without settings.

> node c
    c: gets default-fe352139b3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 3 nodes run revision default-a1fb110ca3; 3 nodes follow later: the agents are being updated, 1 of 2 nodes has the new one (since 12:00:00)
        Reconciling=True WaitingForNodes (since 12:00:00)
    looks again at 12:05:00

> agents updated
    a: gets default-a1fb110ca3 of generation 2
    b: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 3 nodes run revision default-a1fb110ca3; waiting for a, b; 1 node follows (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> run
    --- 12:00:00
    c: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 2 of 3 nodes run revision default-a1fb110ca3; waiting for c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-a1fb110ca3 (since 12:00:00)
