The life of one bad change: three nodes, a canary of one.

> node a
> node b
> node c
> config default canary=1
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

> config default canary=1 resync=60
    default-a1fb110ca3 is recorded as number 2
    a: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 3 nodes run revision default-a1fb110ca3; waiting for a; 2 nodes follow 1m0s from when canary node a is in sync (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:05:00

On a, a probe that worked before does not work any more. Its agent returns to what it had, by itself.

> agent a rolledback ProbeFailed probe web: connecting to 10.96.0.20:80: timed out
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 1; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolloutHalted: 1 node failed with revision default-a1fb110ca3: ProbeFailed on a: probe web: connecting to 10.96.0.20:80: timed out; 2 nodes keep what they have; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolloutHalted (since 12:00:00)
        failed node a: ProbeFailed: probe web: connecting to 10.96.0.20:80: timed out

Nothing else happens, however long it takes.

> wait 24h
    nothing changes

A spec that is put right goes through: first on the node that failed.

> config default canary=1 resync=120
    default-5e2e8c4729 is recorded as number 3
    a: gets default-5e2e8c4729 of generation 3
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 0 of 3 nodes run revision default-5e2e8c4729; waiting for a; 2 nodes follow 1m0s from when canary node a is in sync (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:05:00

> run
    --- 12:00:00
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 1 of 3 nodes run revision default-5e2e8c4729; waiting for a; 2 nodes follow at 12:01:00 UTC if canary node a is in sync until then (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:00:10
    --- 12:00:10
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 1 of 3 nodes run revision default-5e2e8c4729; 2 nodes follow at 12:01:00 UTC if canary node a is in sync until then (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:01:00
    --- 12:01:00
    b: gets default-5e2e8c4729 of generation 3
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 1 of 3 nodes run revision default-5e2e8c4729; waiting for b; 1 node follows (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:06:00
    --- 12:01:00
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 2 of 3 nodes run revision default-5e2e8c4729; waiting for b; 1 node follows (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:01:10
    --- 12:01:10
    c: gets default-5e2e8c4729 of generation 3
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 2 of 3 nodes run revision default-5e2e8c4729; waiting for c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:06:10
    --- 12:01:10
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 3 of 3 nodes run revision default-5e2e8c4729; waiting for c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:01:20
    --- 12:01:20
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-5e2e8c4729 (since 12:01:20)
