A rollout is paused half way, changed, and goes on.

> node n1
> node n2
> node n3
> node n4
> config default max=1 min-ready=0
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

> config default max=1 min-ready=0 resync=60
    default-a1fb110ca3 is recorded as number 2
    n1: gets default-a1fb110ca3 of generation 2
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 4 nodes run revision default-a1fb110ca3; waiting for n1; 3 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    n2: gets default-a1fb110ca3 of generation 2
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 4 nodes run revision default-a1fb110ca3; waiting for n2; 2 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> config default max=1 min-ready=0 resync=60 paused
> agents synced
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolloutPaused: 2 of 4 nodes run revision default-a1fb110ca3; spec.rollout.state is Paused, and 2 nodes are without it (since 12:00:00)

A node that joins is not kept waiting: it gets what the others had.

> node n5
    n5: gets default-fe352139b3 of generation 3
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolloutPaused: 2 of 5 nodes run revision default-a1fb110ca3; spec.rollout.state is Paused, and 3 nodes are without it (since 12:00:00)
    looks again at 12:05:00

> agents synced
    nothing changes

Other settings supersede those that were on their way.

> config default max=1 min-ready=0 resync=90 paused
    default-ea337ebd3e is recorded as number 3
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-ea337ebd3e
        Ready=False RolloutPaused: 0 of 5 nodes run revision default-ea337ebd3e; spec.rollout.state is Paused, and 5 nodes are without it (since 12:00:00)

> config default max=1 min-ready=0 resync=90
    n1: gets default-ea337ebd3e of generation 5
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-ea337ebd3e
        Ready=False RollingOut: 0 of 5 nodes run revision default-ea337ebd3e; waiting for n1; 4 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> run
    --- 12:00:00
    n2: gets default-ea337ebd3e of generation 5
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-ea337ebd3e
        Ready=False RollingOut: 1 of 5 nodes run revision default-ea337ebd3e; waiting for n2; 3 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    n3: gets default-ea337ebd3e of generation 5
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-ea337ebd3e
        Ready=False RollingOut: 2 of 5 nodes run revision default-ea337ebd3e; waiting for n3; 2 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    n4: gets default-ea337ebd3e of generation 5
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 3, ready 3, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-ea337ebd3e
        Ready=False RollingOut: 3 of 5 nodes run revision default-ea337ebd3e; waiting for n4; 1 node follows (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    n5: gets default-ea337ebd3e of generation 5
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 4, ready 4, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-ea337ebd3e
        Ready=False RollingOut: 4 of 5 nodes run revision default-ea337ebd3e; waiting for n5 (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 5, ready 5, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 5 of 5 nodes run revision default-ea337ebd3e (since 12:00:00)

A config that is paused when there is nothing to roll out is as Ready as any other.

> config default max=1 min-ready=0 resync=90 paused
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 5, ready 5, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 5 of 5 nodes run revision default-ea337ebd3e (since 12:00:00)
