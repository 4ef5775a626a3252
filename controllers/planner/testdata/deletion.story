A deleted config takes nothing from its nodes. The next that selects them gets them.

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

> agents synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-fe352139b3 (since 12:00:00)

> delete config default
    nothing changes

> config other resync=60 at-once
    other-a1fb110ca3 is recorded as number 1
    a: gets other-a1fb110ca3 of generation 1
    b: gets other-a1fb110ca3 of generation 1
    other: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision other-a1fb110ca3; waiting for a, b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default-fe352139b3 is forgotten
    other: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision other-a1fb110ca3 (since 12:00:00)

A node that no config selects any more keeps what it has as well.

> node b role=edge
> config other selector=role=edge resync=60 at-once
    other: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision other-a1fb110ca3 (since 12:00:00)

A node that never had a config gets none.

> node c
    nothing changes
