A selector that cannot be parsed takes no node.

> node a role=edge
> config edge priority=10 selector=! at-once
    edge-fe352139b3 is recorded as number 1
    edge: matched 0, overridden 0, conflicted 0, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Failed
        Ready=False NotAccepted: spec.nodeSelector cannot be parsed: "Is" is not a valid label selector operator (since 12:00:00)
        Stalled=True NotAccepted (since 12:00:00)
        Accepted=False InvalidSelector (since 12:00:00)

Mended, it does.

> config edge priority=10 selector=role=edge at-once
    a: gets edge-fe352139b3 of generation 2
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision edge-fe352139b3; waiting for a (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
> wait 1m
    edge: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision edge-fe352139b3 (since 12:01:00)

Broken again, it holds on to the node that it has, as it is: neither new settings nor a catch-all change what works.

> config edge priority=10 selector=! resync=60 at-once
> config default at-once
> node b
    default-fe352139b3 is recorded as number 1
    edge-a1fb110ca3 is recorded as number 2
    b: gets default-fe352139b3 of generation 1
    default: matched 2, overridden 1, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision default-fe352139b3; waiting for b (since 12:01:00)
        Reconciling=True RollingOut (since 12:01:00)
    edge: matched 0, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus Failed
        from edge-fe352139b3 to edge-a1fb110ca3
        Ready=False NotAccepted: spec.nodeSelector cannot be parsed: "Is" is not a valid label selector operator; 1 node keeps what it has (since 12:01:00)
        Stalled=True NotAccepted (since 12:01:00)
        Accepted=False InvalidSelector (since 12:01:00)
    looks again at 12:06:00

> agent b synced
    default: matched 2, overridden 1, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision default-fe352139b3 (since 12:01:00)

A config of higher priority that is in order may have the node.

> config urgent priority=20 selector=role=edge at-once
    urgent-fe352139b3 is recorded as number 1
    a: gets urgent-fe352139b3 of generation 1
    edge: matched 0, overridden 0, conflicted 0, assigned 0, updated 0, ready 0, unavailable 0, failed 0; kstatus Failed
        from edge-fe352139b3 to edge-a1fb110ca3
        Ready=False NotAccepted: spec.nodeSelector cannot be parsed: "Is" is not a valid label selector operator (since 12:01:00)
        Stalled=True NotAccepted (since 12:01:00)
        Accepted=False InvalidSelector (since 12:01:00)
    urgent: matched 1, overridden 0, conflicted 0, assigned 1, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 1 node runs revision urgent-fe352139b3; waiting for a (since 12:01:00)
        Reconciling=True RollingOut (since 12:01:00)
    looks again at 12:06:00

> agents synced
    urgent: matched 1, overridden 0, conflicted 0, assigned 1, updated 1, ready 1, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 1 of 1 node runs revision urgent-fe352139b3 (since 12:01:00)
