Only some nodes may be canaries.

> node a tier=test
> node b
> node c tier=test
> config default canary=1 bake=30 canary-selector=tier=test max=100% min-ready=0
    default-fe352139b3 is recorded as number 1
    a: gets default-fe352139b3 of generation 1
    b: gets default-fe352139b3 of generation 1
    c: gets default-fe352139b3 of generation 1
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 3 nodes run revision default-fe352139b3; waiting for a, b, c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-fe352139b3 (since 12:00:00)

> config default canary=1 bake=30 canary-selector=tier=test max=100% min-ready=0 resync=60
    default-a1fb110ca3 is recorded as number 2
    a: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 0 of 3 nodes run revision default-a1fb110ca3; waiting for a; 2 nodes follow 30s from when canary node a is in sync (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:05:00

> agents synced
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 3 nodes run revision default-a1fb110ca3; 2 nodes follow at 12:00:30 UTC if canary node a is in sync until then (since 12:00:00)
        Reconciling=True Canary (since 12:00:00)
    looks again at 12:00:30

> wait 30s
    b: gets default-a1fb110ca3 of generation 2
    c: gets default-a1fb110ca3 of generation 2
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 1, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-a1fb110ca3
        Ready=False RollingOut: 1 of 3 nodes run revision default-a1fb110ca3; waiting for b, c (since 12:00:00)
        Reconciling=True RollingOut (since 12:00:00)
    looks again at 12:05:30

> agents synced
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 3, ready 3, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 3 of 3 nodes run revision default-a1fb110ca3 (since 12:00:30)

None may, which a typing error can come to. No node is changed without a canary that was asked for.

> config default canary=1 bake=30 canary-selector=tier=tset max=100% min-ready=0 resync=120
    default-5e2e8c4729 is recorded as number 3
    default: matched 3, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-a1fb110ca3 to default-5e2e8c4729
        Ready=False RollingOut: 0 of 3 nodes run revision default-5e2e8c4729; 3 nodes follow a canary node, and spec.rollout.canary selects none that could be one (since 12:00:30)
        Reconciling=True WaitingForNodes (since 12:00:30)

A selector that cannot be parsed changes nothing either.

> config default canary=1 bake=30 canary-selector=! max=100% min-ready=0 resync=120
    default: matched 0, overridden 0, conflicted 0, assigned 3, updated 0, ready 0, unavailable 0, failed 0; kstatus Failed
        from default-a1fb110ca3 to default-5e2e8c4729
        Ready=False NotAccepted: spec.rollout.canary.nodeSelector cannot be parsed: "Is" is not a valid label selector operator; 3 nodes keep what they have (since 12:00:30)
        Stalled=True NotAccepted (since 12:00:30)
        Accepted=False InvalidSelector (since 12:00:30)
