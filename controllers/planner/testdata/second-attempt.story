The kernel refuses a rule, and the agent tries again. As long as it does, nobody has failed.

> node a
> node b
> config default timeout=60
> wait 1s
    default-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets default-fe352139b3 of generation 1
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision default-fe352139b3; waiting for a, b (since 12:00:01)
        Reconciling=True RollingOut (since 12:00:01)
    looks again at 12:01:01

> agents synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-fe352139b3 (since 12:00:01)

> config default timeout=60 resync=60
    default-a1fb110ca3 is recorded as number 2
    a: gets default-a1fb110ca3 of generation 2
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 2 nodes run revision default-a1fb110ca3; waiting for a; 1 node follows (since 12:00:01)
        Reconciling=True RollingOut (since 12:00:01)
    looks again at 12:01:01

> agent a failed Programmed ApplyFailed another program holds the lock
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 1; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 2 nodes run revision default-a1fb110ca3; waiting for a; 1 of 2 nodes failed: ApplyFailed on a: another program holds the lock; 1 node follows (since 12:00:01)
        Reconciling=True RollingOut (since 12:00:01)
        failed node a: ApplyFailed: another program holds the lock
    looks again at 12:01:01

> wait 5s
> agent a synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 2 nodes run revision default-a1fb110ca3; waiting for a; 1 node follows (since 12:00:01)
        Reconciling=True RollingOut (since 12:00:01)
    looks again at 12:00:16

> wait 10s
    b: gets default-a1fb110ca3 of generation 2
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 2 nodes run revision default-a1fb110ca3; waiting for b (since 12:00:01)
        Reconciling=True RollingOut (since 12:00:01)
    looks again at 12:01:16

b never comes to an end with it.

> agent b failed Programmed ApplyFailed another program holds the lock
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 1; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 2 nodes run revision default-a1fb110ca3; waiting for b; 1 of 2 nodes failed: ApplyFailed on b: another program holds the lock (since 12:00:01)
        Reconciling=True RollingOut (since 12:00:01)
        failed node b: ApplyFailed: another program holds the lock
    looks again at 12:01:16

> wait 60s
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 1; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolloutHalted: 1 node failed with revision default-a1fb110ca3: TimedOut on b: not in sync after 1m0s; the agent says ApplyFailed: another program holds the lock; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:01)
        Stalled=True RolloutHalted (since 12:01:16)
        failed node b: TimedOut: not in sync after 1m0s; the agent says ApplyFailed: another program holds the lock

In a node that has the settings already a failure is one at once: nothing says that it will pass.

> agent a failed Programmed ApplyFailed another program holds the lock
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 0, unavailable 0, failed 2; kstatus Failed
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RolloutHalted: 1 node failed with revision default-a1fb110ca3: TimedOut on b: not in sync after 1m0s; the agent says ApplyFailed: another program holds the lock; change the settings, or the annotation serviceproxy.io/retry to try again (since 12:00:01)
        Stalled=True RolloutHalted (since 12:01:16)
        failed node a: ApplyFailed: another program holds the lock
        failed node b: TimedOut: not in sync after 1m0s; the agent says ApplyFailed: another program holds the lock
