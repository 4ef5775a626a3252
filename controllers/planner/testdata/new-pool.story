A new config takes nodes from another: that is a change for them, and its canary goes first.

> node a role=edge
> node b role=edge
> node c
> config default
    default-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets default-fe352139b3 of generation 1
    c: gets default-fe352139b3 of generation 1
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 3 nodes run revision default-fe352139b3; waiting for a, b, c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-fe352139b3 (since 12:00:00)

> config edge priority=10 selector=role=edge resync=60 canary=1 delay=0
    edge-a1fb110ca3 is recorded as number 1
    a: gets edge-a1fb110ca3 of generation 1
    default: matched 3, overridden 2, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-fe352139b3 (since 12:00:00)
    edge: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision edge-a1fb110ca3; waiting for a; 1 node follows 1m0s from when canary node a is in sync (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:05:00

> agent a rolledback ProbeFailed the API server cannot be reached
    edge: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 1; kstatus Failed
        Ready=False RolloutHalted: 1 node failed with revision edge-a1fb110ca3: ProbeFailed on a: the API server cannot be reached; 1 node keeps what it has; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolloutHalted (since 12:00:00)
        failed node a: ProbeFailed: the API server cannot be reached

There is nothing in this pool to go back to, and the node does not need it: it runs what it had.

> node d role=edge
    d: gets edge-a1fb110ca3 of generation 1
    default: matched 4, overridden 3, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-fe352139b3 (since 12:00:00)
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 1; kstatus Failed
        Ready=False RolloutHalted: 1 node failed with revision edge-a1fb110ca3: ProbeFailed on a: the API server cannot be reached; 1 node keeps what it has; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolloutHalted (since 12:00:00)
        failed node a: ProbeFailed: the API server cannot be reached
    looks again at 12:05:00

> config edge priority=10 selector=role=edge resync=90 canary=1 delay=0
    edge-ea337ebd3e is recorded as number 2
    a: gets edge-ea337ebd3e of generation 2
    d: gets edge-ea337ebd3e of generation 2
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 3 nodes run revision edge-ea337ebd3e; waiting for a, d; 1 node follows 1m0s from when canary nodes a, d are in sync (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:05:00

> run
    --- 12:00:00
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 2 of 3 nodes run revision edge-ea337ebd3e; waiting for a; 1 node follows at 12:01:00 UTC if canary nodes a, d are in sync until then (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:00:10
    --- 12:00:10
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 2 of 3 nodes run revision edge-ea337ebd3e; 1 node follows at 12:01:00 UTC if canary nodes a, d are in sync until then (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:01:00
    --- 12:01:00
    b: gets edge-ea337ebd3e of generation 2
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 2 of 3 nodes run revision edge-ea337ebd3e; waiting for b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:06:00
    --- 12:01:00
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 3 of 3 nodes run revision edge-ea337ebd3e; waiting for b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:01:10
    --- 12:01:10
    edge: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision edge-ea337ebd3e (since 12:01:10)
