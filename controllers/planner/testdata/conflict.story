Two configs of the same priority select the same new nodes. The first name gets them, and both say so.

> node a role=edge
> node b role=edge
> config edge selector=role=edge at-once
> config basic selector=role=edge resync=60 at-once
    basic-a1fb110ca3 is recorded as number 1
    edge-fe352139b3 is recorded as number 1
    a: gets basic-a1fb110ca3 of generation 1
    b: gets basic-a1fb110ca3 of generation 1
    basic: matched 2, overridden 0, conflicted 2, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision basic-a1fb110ca3; waiting for a, b (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with edge on a, b (since 12:00:00)
    edge: matched 2, overridden 0, conflicted 2, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Failed
        Ready=False Conflicted: configs of the same priority 0 keep nodes that are selected here: basic keeps a, b; change the priority or the node selector of one of them (since 12:00:00)
        Stalled=True Conflicted (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with basic on a, b (since 12:00:00)
    looks again at 12:05:00

> agents synced
    basic: matched 2, overridden 0, conflicted 2, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision basic-a1fb110ca3 (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with edge on a, b (since 12:00:00)

Another name that comes first does not take over what works.

> config alpha selector=role=edge at-once
> wait 1m
    alpha-fe352139b3 is recorded as number 1
    alpha: matched 2, overridden 0, conflicted 2, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Failed
        Ready=False Conflicted: configs of the same priority 0 keep nodes that are selected here: basic keeps a, b; change the priority or the node selector of one of them (since 12:01:00)
        Stalled=True Conflicted (since 12:01:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with basic on a, b; edge on a, b (since 12:01:00)
    basic: matched 2, overridden 0, conflicted 2, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision basic-a1fb110ca3 (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with alpha on a, b; edge on a, b (since 12:00:00)
    edge: matched 2, overridden 0, conflicted 2, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Failed
        Ready=False Conflicted: configs of the same priority 0 keep nodes that are selected here: basic keeps a, b; change the priority or the node selector of one of them (since 12:00:00)
        Stalled=True Conflicted (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with alpha on a, b; basic on a, b (since 12:00:00)

The config that has the nodes goes. Of the two that are left the first name gets them.

> delete config basic
    a: gets alpha-fe352139b3 of generation 1
    b: gets alpha-fe352139b3 of generation 1
    alpha: matched 2, overridden 0, conflicted 2, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision alpha-fe352139b3; waiting for a, b (since 12:01:00)
        Reconciling=True RollingOut (since 12:01:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with edge on a, b (since 12:01:00)
    edge: matched 2, overridden 0, conflicted 2, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Failed
        Ready=False Conflicted: configs of the same priority 0 keep nodes that are selected here: alpha keeps a, b; change the priority or the node selector of one of them (since 12:00:00)
        Stalled=True Conflicted (since 12:00:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with alpha on a, b (since 12:00:00)
    looks again at 12:06:00

> agents synced
    basic-a1fb110ca3 is forgotten
    alpha: matched 2, overridden 0, conflicted 2, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision alpha-fe352139b3 (since 12:01:00)
        Conflicted=True EqualPriorityOverlap: priority 0 is shared with edge on a, b (since 12:01:00)

Another priority ends the conflict.

> config edge selector=role=edge priority=1 at-once
    a: gets edge-fe352139b3 of generation 2
    b: gets edge-fe352139b3 of generation 2
    alpha: matched 2, overridden 2, conflicted 0, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Current
        Ready=True NoMatchingNodes: configs of higher priority have 2 nodes that spec.nodeSelector selects (since 12:01:00)
    edge: matched 2, overridden 0, conflicted 0, assigned 2, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 2 nodes run revision edge-fe352139b3; waiting for a, b (since 12:00:00)
        Reconciling=True RollingOut (since 12:01:00)
    looks again at 12:06:00

> agents synced
    edge: matched 2, overridden 0, conflicted 0, assigned 2, updated 2, ready 2, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 2 of 2 nodes run revision edge-fe352139b3 (since 12:01:00)
