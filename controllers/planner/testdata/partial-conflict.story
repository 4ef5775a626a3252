A conflict on some nodes does not keep a config from serving the others.

> node a zone=1 role=edge
> node b zone=1
> node c role=edge
> config edge selector=role=edge at-once
> config one selector=zone=1 at-once
    edge-fe352139b3 is recorded as number 1
    one-fe352139b3 is recorded as number 1
    a: gets edge-fe352139b3 of generation 1
    b: gets one-fe352139b3 of generation 1
    c: gets edge-fe352139b3 of generation 1
    edge: matched 2, overridden 0, conflicted 1, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision edge-fe352139b3; waiting for a, c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with one on a (since 12:00:00)
    one: matched 2, overridden 0, conflicted 1, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus Failed
        Ready=False Conflicted: configs of the same priority 0 keep nodes that are selected here: edge keeps a; change the priority or the node selector of one of them (since 12:00:00)
        Stalled=True Conflicted (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with edge on a (since 12:00:00)
    looks again at 12:05:00

> agents synced
    edge: matched 2, overridden 0, conflicted 1, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision edge-fe352139b3 (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with one on a (since 12:00:00)
    one: matched 2, overridden 0, conflicted 1, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Failed
        Ready=False Conflicted: configs of the same priority 0 keep nodes that are selected here: edge keeps a; change the priority or the node selector of one of them (since 12:00:00)
        Stalled=True Conflicted (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with edge on a (since 12:00:00)

A config of higher priority that has the disputed node ends the dispute.

> node d role=edge zone=1 disputed=yes
> node a zone=1 role=edge disputed=yes
> config referee priority=5 selector=disputed=yes at-once
    referee-fe352139b3 is recorded as number 1
    a: gets referee-fe352139b3 of generation 1
    d: gets referee-fe352139b3 of generation 1
    edge: matched 3, overridden 2, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision edge-fe352139b3 (since 12:00:00)
    one: matched 3, overridden 2, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision one-fe352139b3 (since 12:00:00)
    referee: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision referee-fe352139b3; waiting for a, d (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    referee: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision referee-fe352139b3 (since 12:00:00)
