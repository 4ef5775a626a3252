One of three nodes has no iptables. Somebody has to act, so the config is Stalled, and it says where to look.

> node a
> node b
> node c
> config default at-once
    default-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets default-fe352139b3 of generation 1
    c: gets default-fe352139b3 of generation 1
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 3 nodes run revision default-fe352139b3; waiting for a, b, c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agent a synced
> agent b failed Accepted BackendUnavailable no working iptables was found: install it
> wait 10s
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 0, failed 1; kstatus Failed
        Ready=False NodesFailed: 1 of 3 nodes failed: BackendUnavailable on b: no working iptables was found: install it (since 12:00:00)
        Stalled=True NodesFailed (since 12:00:10)
        failed node b: BackendUnavailable: no working iptables was found: install it
    looks again at 12:05:00

The last node is still on its way, which changes nothing of that.

> agent c synced
> wait 10s
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 2, ready 2, unavailable 0, failed 1; kstatus Failed
        Ready=False NodesFailed: 1 of 3 nodes failed: BackendUnavailable on b: no working iptables was found: install it (since 12:00:00)
        Stalled=True NodesFailed (since 12:00:10)
        failed node b: BackendUnavailable: no working iptables was found: install it

With new settings the old failure is history, until the agent has looked at them.

> config default resync=120 at-once
    default-5e2e8c4729 is recorded as number 2
    a: gets default-5e2e8c4729 of generation 2
    b: gets default-5e2e8c4729 of generation 2
    c: gets default-5e2e8c4729 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 0 of 3 nodes run revision default-5e2e8c4729; waiting for a, b, c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:20)
    looks again at 12:05:20

> agents synced
> wait 10s
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-5e2e8c4729 (since 12:00:30)

A sync that fails later counts as well: the node runs the revision, but it is not in sync.

> agent a failed Programmed ApplyFailed iptables-restore: line 7 failed
> agent b failed Programmed ApplyFailed iptables-restore: line 7 failed
> agent c failed Programmed ApplyFailed iptables-restore: line 9 failed
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 0, unavailable 0, failed 3; kstatus Failed
        Ready=False NodesFailed: 3 of 3 nodes failed: ApplyFailed on a, b: iptables-restore: line 7 failed; ApplyFailed on c: iptables-restore: line 9 failed (since 12:00:30)
        Stalled=True NodesFailed (since 12:00:30)
        failed node a: ApplyFailed: iptables-restore: line 7 failed
        failed node b: ApplyFailed: iptables-restore: line 7 failed
        failed node c: ApplyFailed: iptables-restore: line 9 failed

A failing node whose Node is not Ready still failed, perhaps for that very reason.

> node c NotReady
> agent a synced
> agent b synced
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 2, unavailable 1, failed 1; kstatus Failed
        Ready=False NodesFailed: 1 of 3 nodes failed: ApplyFailed on c: iptables-restore: line 9 failed (since 12:00:30)
        Stalled=True NodesFailed (since 12:00:30)
        failed node c: ApplyFailed: iptables-restore: line 9 failed
