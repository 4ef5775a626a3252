A node changes pools: not at once, and not more nodes at a time than the pool that takes it allows.

> node a
> node b
> node c
> node d role=edge
> config default
> config edge priority=10 selector=role=edge resync=60 max=1
    default-fe352139b3 is recorded as number 1
    edge-a1fb110ca3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets default-fe352139b3 of generation 1
    c: gets default-fe352139b3 of generation 1
    d: gets edge-a1fb110ca3 of generation 1
    default: matched 4, overridden 1, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 3 nodes run revision default-fe352139b3; waiting for a, b, c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision edge-a1fb110ca3; waiting for d (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 4, overridden 1, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-fe352139b3 (since 12:00:00)
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision edge-a1fb110ca3 (since 12:00:00)

A label that comes and goes moves nothing.

> node a role=edge
    a: is wanted by "edge/2026-01-01T12:00:00Z"
    default: matched 4, overridden 2, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-fe352139b3 (since 12:00:00)
    edge: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 2 nodes run revision edge-a1fb110ca3; taking over a from another config after 30s (since 12:00:00)
        Reconciling=True WaitingForNodes (since 12:00:00)
    looks again at 12:00:30

> wait 20s
> node a
    a: is wanted by ""
    default: matched 4, overridden 1, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-fe352139b3 (since 12:00:00)
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision edge-a1fb110ca3 (since 12:00:20)

> wait 20s
> node a role=edge
> node b role=edge
    a: is wanted by "edge/2026-01-01T12:00:40Z"
    b: is wanted by "edge/2026-01-01T12:00:40Z"
    default: matched 4, overridden 3, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-fe352139b3 (since 12:00:00)
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 3 nodes run revision edge-a1fb110ca3; taking over a, b from another config after 30s (since 12:00:40)
        Reconciling=True WaitingForNodes (since 12:00:40)
    looks again at 12:01:10

> wait 29s
    looks again at 12:01:10
    nothing changes

> wait 1s
    a: gets edge-a1fb110ca3 of generation 1
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 3 nodes run revision edge-a1fb110ca3; waiting for a; 1 node follows (since 12:00:40)
        Reconciling=True RollingOut (since 12:00:40)
    looks again at 12:06:10

> run
    --- 12:01:10
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 2 of 3 nodes run revision edge-a1fb110ca3; waiting for a; 1 node follows (since 12:00:40)
        Reconciling=True RollingOut (since 12:00:40)
    looks again at 12:01:20
    --- 12:01:20
    b: gets edge-a1fb110ca3 of generation 1
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 2 of 3 nodes run revision edge-a1fb110ca3; waiting for b (since 12:00:40)
        Reconciling=True RollingOut (since 12:00:40)
    looks again at 12:06:20
    --- 12:01:20
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 3 of 3 nodes run revision edge-a1fb110ca3; waiting for b (since 12:00:40)
        Reconciling=True RollingOut (since 12:00:40)
    looks again at 12:01:30
    --- 12:01:30
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision edge-a1fb110ca3 (since 12:01:30)
