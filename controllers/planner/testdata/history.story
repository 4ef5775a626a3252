Old settings are kept as far as spec.revisionHistoryLimit says, and longer while a node has them.

> node a
> config default at-once history=1
    default-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision default-fe352139b3; waiting for a (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-fe352139b3 (since 12:00:00)

> config default at-once history=1 resync=60
    default-a1fb110ca3 is recorded as number 2
    a: gets default-a1fb110ca3 of generation 2
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 1 node runs revision default-a1fb110ca3; waiting for a (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-a1fb110ca3 (since 12:00:00)

> config default at-once history=1 resync=120
    default-5e2e8c4729 is recorded as number 3
    a: gets default-5e2e8c4729 of generation 3
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-a1fb110ca3 to default-5e2e8c4729
        Ready=False RollingOut: 0 of 1 node runs revision default-5e2e8c4729; waiting for a (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default-fe352139b3 is forgotten
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-5e2e8c4729 (since 12:00:00)

> config default at-once history=1 resync=240
    default-1c102df8e4 is recorded as number 4
    a: gets default-1c102df8e4 of generation 4
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 0 of 1 node runs revision default-1c102df8e4; waiting for a (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default-a1fb110ca3 is forgotten
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-1c102df8e4 (since 12:00:00)

What comes again becomes the latest.

> config default at-once history=1 resync=120
    default-5e2e8c4729 is number 5 now
    a: gets default-5e2e8c4729 of generation 5
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-1c102df8e4 to default-5e2e8c4729
        Ready=False RollingOut: 0 of 1 node runs revision default-5e2e8c4729; waiting for a (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-5e2e8c4729 (since 12:00:00)

With the config and the nodes its history goes.

> delete config default
    default-1c102df8e4 is forgotten

> delete node a
    default-5e2e8c4729 is forgotten
