A catch-all has every node until a pool of higher priority takes its own. Being outranked is no fault.

> node a role=edge
> node b
> config default at-once
> config edge priority=10 selector=role=edge resync=60 at-once
    default-fe352139b3 is recorded as number 1
    edge-a1fb110ca3 is recorded as number 1
    a: gets edge-a1fb110ca3 of generation 1
    b: gets default-fe352139b3 of generation 1
    default: matched 2, overridden 1, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision default-fe352139b3; waiting for b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision edge-a1fb110ca3; waiting for a (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 2, overridden 1, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-fe352139b3 (since 12:00:00)
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision edge-a1fb110ca3 (since 12:00:00)

The catch-all has nothing left, and nothing to complain about.

> node b role=edge
    b: gets edge-a1fb110ca3 of generation 1
    default: matched 2, overridden 2, conflicted 0, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Current
        Ready=True NoMatchingNodes: configs of higher priority have 2 nodes that spec.nodeSelector selects (since 12:00:00)
    edge: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 2 nodes run revision edge-a1fb110ca3; waiting for b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    edge: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision edge-a1fb110ca3 (since 12:00:00)

The pool loses in priority, and the catch-all takes over.

> config default priority=20 at-once
    a: gets default-fe352139b3 of generation 2
    b: gets default-fe352139b3 of generation 2
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision default-fe352139b3; waiting for a, b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    edge: matched 2, overridden 2, conflicted 0, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Current
        Ready=True NoMatchingNodes: configs of higher priority have 2 nodes that spec.nodeSelector selects (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-fe352139b3 (since 12:00:00)
