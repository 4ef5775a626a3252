Nodes that no config selects any more keep what they have, unless their config says Cleanup.

> node a
> node b role=edge
> config default selector=role=none
> config edge selector=role=edge on-release=Cleanup
> node a role=none
    default-fe352139b3 is recorded as number 1
    edge-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets edge-fe352139b3 of generation 1
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision default-fe352139b3; waiting for a (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision edge-fe352139b3; waiting for b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-fe352139b3 (since 12:00:00)
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision edge-fe352139b3 (since 12:00:00)

The label goes, and comes back before anything happened.

> node b
    b: is wanted by "/2026-01-01T12:00:00Z"
    edge: matched 0, overridden 0, conflicted 0, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Current
        Ready=True NoMatchingNodes: spec.nodeSelector selects no node (since 12:00:00)
    looks again at 12:00:30

> wait 20s
> node b role=edge
    b: is wanted by ""
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision edge-fe352139b3 (since 12:00:00)

The config is deleted. What it said about release is with its last revision.

> delete config edge
> delete config default
    b: is wanted by "/2026-01-01T12:00:20Z"
    looks again at 12:00:50

> wait 30s
    b: gives everything back

A node that gave everything back begins anew when a config selects it.

> config other
    other-fe352139b3 is recorded as number 1
    a: is wanted by "other/2026-01-01T12:00:50Z"
    b: gets other-fe352139b3 of generation 1
    other: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision other-fe352139b3; waiting for b; taking over a from another config after 30s (since 12:00:50)
        Reconciling=True RollingOut (since 12:00:50)
    looks again at 12:01:20

> agents synced
    edge-fe352139b3 is forgotten
    other: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 2 nodes run revision other-fe352139b3; taking over a from another config after 30s (since 12:00:50)
        Reconciling=True WaitingForNodes (since 12:00:50)
    looks again at 12:01:20

> run
    --- 12:01:20
    a: gets other-fe352139b3 of generation 1
    other: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 2 nodes run revision other-fe352139b3; waiting for a (since 12:00:50)
        Reconciling=True RollingOut (since 12:00:50)
    looks again at 12:06:20
    --- 12:01:20
    default-fe352139b3 is forgotten
    other: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 2 of 2 nodes run revision other-fe352139b3; waiting for a (since 12:00:50)
        Reconciling=True RollingOut (since 12:00:50)
    looks again at 12:01:30
    --- 12:01:30
    other: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision other-fe352139b3 (since 12:01:30)
