A config is applied to two nodes. It is Ready once both say that they run it.

> node a
> node b
> config default at-once
    default-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets default-fe352139b3 of generation 1
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision default-fe352139b3; waiting for a, b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

One agent is quick. The other has the rules in the kernel, but has not finished its first sync.

> agent a synced
> agent b applied
> wait 5s
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 2 nodes run revision default-fe352139b3; waiting for b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agent b synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-fe352139b3 (since 12:00:05)

Other settings are another revision, and what the nodes said of the last one does not count for it.

> wait 60s
> config default resync=120 at-once
    default-5e2e8c4729 is recorded as number 2
    a: gets default-5e2e8c4729 of generation 2
    b: gets default-5e2e8c4729 of generation 2
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 0 of 2 nodes run revision default-5e2e8c4729; waiting for a, b (since 12:01:05)
        Reconciling=True RollingOut (since 12:01:05)
    looks again at 12:06:05

> agents synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-5e2e8c4729 (since 12:01:05)

Another priority is another generation of the config, but not of any node.

> config default resync=120 priority=10 at-once
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-5e2e8c4729 (since 12:01:05)
