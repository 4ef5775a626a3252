A config without a node is Ready: there is nothing to do.

> config default at-once
    default-fe352139b3 is recorded as number 1
    default: matched 0, overridden 0, conflicted 0, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Current
        Ready=True NoMatchingNodes: spec.nodeSelector selects no node (since 12:00:00)

> node a
    a: gets default-fe352139b3 of generation 1
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision default-fe352139b3; waiting for a (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-fe352139b3 (since 12:00:00)

A Node that is not Ready gets its settings and is not waited for.

> node b NotReady
> wait 1m
    b: gets default-fe352139b3 of generation 1
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 1, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 2 nodes run revision default-fe352139b3; not waiting for b, where the Node is not Ready (since 12:00:00)

When it comes back, it is.

> node b
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 2 nodes run revision default-fe352139b3; waiting for b (since 12:01:00)
        Reconciling=True RollingOut (since 12:01:00)
    looks again at 12:06:00

> agent b synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-fe352139b3 (since 12:01:00)

A machine that was built anew under the same name starts over: what the old one reported is void.

> rebuild a
> wait 1m
    a: its object goes, and another comes; a: gets default-fe352139b3 of generation 1
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 1 of 2 nodes run revision default-fe352139b3; waiting for a (since 12:02:00)
        Reconciling=True RollingOut (since 12:02:00)
    looks again at 12:07:00

> agent a synced
    default: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision default-fe352139b3 (since 12:02:00)

> delete node b
    default: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-fe352139b3 (since 12:02:00)
