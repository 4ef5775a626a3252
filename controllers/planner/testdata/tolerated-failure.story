One failed node is within what may fail, so the rollout ends without it, and says so.

> node n1
> node n2
> node n3
> node n4
> config default at-once threshold=2
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

> config default at-once threshold=2 resync=60
    default-a1fb110ca3 is recorded as number 2
    n1: gets default-a1fb110ca3 of generation 2
    n2: gets default-a1fb110ca3 of generation 2
    n3: gets default-a1fb110ca3 of generation 2
    n4: gets default-a1fb110ca3 of generation 2
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 4 nodes run revision default-a1fb110ca3; waiting for n1, n2, n3 and 1 more (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agent n1 synced
> agent n2 synced
> agent n3 synced
> agent n4 rolledback ApplyFailed the kernel refused a rule
    default: matched 4, overridden 0, conflicted 0, assigned 4, updated 3, ready 3, unavailable 0, failed 1; kstatus Failed
        Ready=False NodesFailed: 1 of 4 nodes failed: ApplyFailed on n4: the kernel refused a rule (since 12:00:00)
        Stalled=True NodesFailed (since 12:00:00)
        failed node n4: ApplyFailed: the kernel refused a rule

What three nodes run is now what a node that joins gets.

> node n5
    n5: gets default-a1fb110ca3 of generation 2
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 3, ready 3, unavailable 0, failed 1; kstatus Failed
        Ready=False NodesFailed: 1 of 5 nodes failed: ApplyFailed on n4: the kernel refused a rule (since 12:00:00)
        Stalled=True NodesFailed (since 12:00:00)
        failed node n4: ApplyFailed: the kernel refused a rule
    looks again at 12:05:00

> agent n5 synced
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 4, ready 4, unavailable 0, failed 1; kstatus Failed
        Ready=False NodesFailed: 1 of 5 nodes failed: ApplyFailed on n4: the kernel refused a rule (since 12:00:00)
        Stalled=True NodesFailed (since 12:00:00)
        failed node n4: ApplyFailed: the kernel refused a rule

Another try, of this one node.

> retry default 2
    n4: its object goes, and another comes; n4: gets default-a1fb110ca3 of generation 2
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 4, ready 4, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 4 of 5 nodes run revision default-a1fb110ca3; waiting for n4 (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agent n4 synced
    default: matched 5, overridden 0, conflicted 0, assigned 5, updated 5, ready 5, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 5 of 5 nodes run revision default-a1fb110ca3 (since 12:00:00)
