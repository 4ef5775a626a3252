Six nodes. A change breaks the last of them, and the pool is to go back.

> node n1
> node n2
> node n3
> node n4
> node n5
> node n6
> config default max=2 min-ready=0 on-failure=Rollback
    default-fe352139b3 is recorded as number 1
    n1: gets default-fe352139b3 of generation 1
    n2: gets default-fe352139b3 of generation 1
    n3: gets default-fe352139b3 of generation 1
    n4: gets default-fe352139b3 of generation 1
    n5: gets default-fe352139b3 of generation 1
    n6: gets default-fe352139b3 of generation 1
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 6 nodes run revision default-fe352139b3; waiting for n1, n2, n3 and 3 more (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 6, ready 6, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 6 of 6 nodes run revision default-fe352139b3 (since 12:00:00)

> config default max=2 min-ready=0 on-failure=Rollback resync=60
    default-a1fb110ca3 is recorded as number 2
    n1: gets default-a1fb110ca3 of generation 2
    n2: gets default-a1fb110ca3 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 6 nodes run revision default-a1fb110ca3; waiting for n1, n2; 4 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    n3: gets default-a1fb110ca3 of generation 2
    n4: gets default-a1fb110ca3 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 2 of 6 nodes run revision default-a1fb110ca3; waiting for n3, n4; 2 nodes follow (since 12:00:00)
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

> agent n5 synced
> agent n6 rolledback VerifyFailed what was written is not what the kernel holds
    n1: gets default-fe352139b3 of generation 2
    n6: gets default-fe352139b3 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 4, ready 4, unavailable 0, failed 1; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolledBack: 1 node failed with revision default-a1fb110ca3: VerifyFailed on n6: what was written is not what the kernel holds; 4 nodes wait for the way back to revision default-fe352139b3; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolledBack (since 12:00:00)
        failed node n6: VerifyFailed: what was written is not what the kernel holds
    looks again at 12:05:00

All go back, two at a time, n6 first: its agent is back already.

> agents synced
    n2: gets default-fe352139b3 of generation 2
    n3: gets default-fe352139b3 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 2, unavailable 0, failed 1; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolledBack: 1 node failed with revision default-a1fb110ca3: VerifyFailed on n6: what was written is not what the kernel holds; 2 nodes wait for the way back to revision default-fe352139b3; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolledBack (since 12:00:00)
        failed node n6: VerifyFailed: what was written is not what the kernel holds
    looks again at 12:05:00

> agents synced
    n4: gets default-fe352139b3 of generation 2
    n5: gets default-fe352139b3 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 0, ready 0, unavailable 0, failed 1; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolledBack: 1 node failed with revision default-a1fb110ca3: VerifyFailed on n6: what was written is not what the kernel holds; n4, n5 on the way back to revision default-fe352139b3; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolledBack (since 12:00:00)
        failed node n6: VerifyFailed: what was written is not what the kernel holds
    looks again at 12:05:00

> run
    --- 12:00:00
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 0, ready 0, unavailable 0, failed 1; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolledBack: 1 node failed with revision default-a1fb110ca3: VerifyFailed on n6: what was written is not what the kernel holds; 6 nodes have revision default-fe352139b3 again; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolledBack (since 12:00:00)
        failed node n6: VerifyFailed: what was written is not what the kernel holds

Git still asks for what was bad. It is not tried again, also when something else changes.

> config default max=2 min-ready=0 on-failure=Rollback resync=60 priority=5
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 0, ready 0, unavailable 0, failed 1; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolledBack: 1 node failed with revision default-a1fb110ca3: VerifyFailed on n6: what was written is not what the kernel holds; 6 nodes have revision default-fe352139b3 again; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:00)
        Stalled=True RolledBack (since 12:00:00)
        failed node n6: VerifyFailed: what was written is not what the kernel holds

Somebody finds the cause, and asks for another try.

> retry default 2026-01-02
    n1: gets default-a1fb110ca3 of generation 3
    n2: gets default-a1fb110ca3 of generation 3
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 6 nodes run revision default-a1fb110ca3; waiting for n1, n2; 4 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> run
    --- 12:00:00
    n3: gets default-a1fb110ca3 of generation 3
    n4: gets default-a1fb110ca3 of generation 3
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 2 of 6 nodes run revision default-a1fb110ca3; waiting for n3, n4; 2 nodes follow (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    n5: gets default-a1fb110ca3 of generation 3
    n6: gets default-a1fb110ca3 of generation 3
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 4, ready 4, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 4 of 6 nodes run revision default-a1fb110ca3; waiting for n5, n6 (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00
    --- 12:00:00
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 6, ready 6, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 6 of 6 nodes run revision default-a1fb110ca3 (since 12:00:00)
