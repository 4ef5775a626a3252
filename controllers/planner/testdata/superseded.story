A change is taken back half way, and what some nodes have already is not held against it.

> node n1
> node n2
> node n3
> node n4
> config default max=2 canary=1 bake=0 min-ready=0
    default-fe352139b3 is recorded as number 1
    n1: gets default-fe352139b3 of generation 1
    n2: gets default-fe352139b3 of generation 1
    n3: gets default-fe352139b3 of generation 1
    n4: gets default-fe352139b3 of generation 1
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 4 nodes run revision default-fe352139b3; waiting for n1, n2, n3 and 1 more (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 4, ready 4, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 4 of 4 nodes run revision default-fe352139b3 (since 12:00:00)

> config default max=2 canary=1 bake=0 min-ready=0 resync=60
    default-a1fb110ca3 is recorded as number 2
    n1: gets default-a1fb110ca3 of generation 2
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 4 nodes run revision default-a1fb110ca3; waiting for n1; 3 nodes follow 0s from when canary node n1 is in sync (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:05:00

> agents synced
    n2: gets default-a1fb110ca3 of generation 2
    n3: gets default-a1fb110ca3 of generation 2
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 4 nodes run revision default-a1fb110ca3; waiting for n2, n3; 1 node follows (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agent n2 synced
> config default max=2 canary=1 bake=0 min-ready=0
    default-fe352139b3 is number 3 now
    n1: gets default-fe352139b3 of generation 3
    n3: gets default-fe352139b3 of generation 3
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 4 nodes run revision default-fe352139b3; waiting for n1, n3; 1 node follows (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

n1 and n2 go back, at once: what all others run needs no canary. n3 had it, but never said so.

> run
    --- 12:00:00
    n2: gets default-fe352139b3 of generation 3
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 3, ready 3, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 3 of 4 nodes run revision default-fe352139b3; waiting for n2 (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 4, ready 4, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 4 of 4 nodes run revision default-fe352139b3 (since 12:00:00)

The settings that were taken back have their place in the history, and may come again.

> config default max=2 canary=1 bake=0 min-ready=0 resync=60
    default-a1fb110ca3 is number 4 now
    n1: gets default-a1fb110ca3 of generation 4
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 4 nodes run revision default-a1fb110ca3; waiting for n1; 3 nodes follow 0s from when canary node n1 is in sync (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:05:00

> run
    --- 12:00:00
    n2: gets default-a1fb110ca3 of generation 4
    n3: gets default-a1fb110ca3 of generation 4
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 4 nodes run revision default-a1fb110ca3; waiting for n2, n3; 1 node follows (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    n4: gets default-a1fb110ca3 of generation 4
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 3, ready 3, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 3 of 4 nodes run revision default-a1fb110ca3; waiting for n4 (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 4, ready 4, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 4 of 4 nodes run revision default-a1fb110ca3 (since 12:00:00)
