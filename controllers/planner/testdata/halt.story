A rollout that may lose two nodes.

> node n1
> node n2
> node n3
> node n4
> node n5
> config default max=2 threshold=2 min-ready=0
    default-fe352139b3 is recorded as number 1
    n1: gets default-fe352139b3 of generation 1
    n2: gets default-fe352139b3 of generation 1
    n3: gets default-fe352139b3 of generation 1
    n4: gets default-fe352139b3 of generation 1
    n5: gets default-fe352139b3 of generation 1
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 5 nodes run revision default-fe352139b3; waiting for n1, n2, n3 and 2 more (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 5, ready 5, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 5 of 5 nodes run revision default-fe352139b3 (since 12:00:00)

> config default max=2 threshold=2 min-ready=0 resync=60
    default-a1fb110ca3 is recorded as number 2
    n1: gets default-a1fb110ca3 of generation 2
    n2: gets default-a1fb110ca3 of generation 2
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 5 nodes run revision default-a1fb110ca3; waiting for n1, n2; 3 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

One node fails: the rollout goes on with what is left of maxUnavailable.

> agent n1 rolledback ApplyFailed the kernel refused a rule
> agent n2 synced
    n3: gets default-a1fb110ca3 of generation 2
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 1, ready 1, unavailable 0, failed 1; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 5 nodes run revision default-a1fb110ca3; waiting for n3; 1 of 5 nodes failed: ApplyFailed on n1: the kernel refused a rule; 2 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
        failed node n1: ApplyFailed: the kernel refused a rule
    looks again at 12:05:00

> agent n3 synced
    n4: gets default-a1fb110ca3 of generation 2
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 2, ready 2, unavailable 0, failed 1; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 2 of 5 nodes run revision default-a1fb110ca3; waiting for n4; 1 of 5 nodes failed: ApplyFailed on n1: the kernel refused a rule; 1 node follows (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
        failed node n1: ApplyFailed: the kernel refused a rule
    looks again at 12:05:00

The second failure ends it. Those that took the change keep it.

> agent n4 rolledback ApplyFailed the kernel refused a rule
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 2, ready 2, unavailable 0, failed 2; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolloutHalted: 2 nodes failed with revision default-a1fb110ca3: ApplyFailed on n1, n4: the kernel refused a rule; 1 node keeps what it has; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolloutHalted (since 12:00:00)
        failed node n1: ApplyFailed: the kernel refused a rule
        failed node n4: ApplyFailed: the kernel refused a rule

A node that joins gets what was there before.

> node n6
    n6: gets default-fe352139b3 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 2, unavailable 0, failed 2; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolloutHalted: 2 nodes failed with revision default-a1fb110ca3: ApplyFailed on n1, n4: the kernel refused a rule; 2 nodes keep what they have; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolloutHalted (since 12:00:00)
        failed node n1: ApplyFailed: the kernel refused a rule
        failed node n4: ApplyFailed: the kernel refused a rule
    looks again at 12:05:00

> agent n6 synced
    nothing changes

The cause was found and removed. The annotation says so, and the nodes that failed try again: another object makes their
agents forget that they gave up.

> retry default 2
    n1: its object goes, and another comes; n1: gets default-a1fb110ca3 of generation 2
    n4: its object goes, and another comes; n4: gets default-a1fb110ca3 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 2 of 6 nodes run revision default-a1fb110ca3; waiting for n1, n4; 2 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    n5: gets default-a1fb110ca3 of generation 2
    n6: gets default-a1fb110ca3 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 4, ready 4, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 4 of 6 nodes run revision default-a1fb110ca3; waiting for n5, n6 (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> run
    --- 12:00:00
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 6, ready 6, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 6 of 6 nodes run revision default-a1fb110ca3 (since 12:00:00)
