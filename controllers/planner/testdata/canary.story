Six nodes in two zones run the first settings.

> node a1 zone=a
> node b1 zone=b
> wait 1m
> node a2 zone=a
> node b2 zone=b
> wait 1m
> node a3 zone=a
> node b3 zone=b
> config default canary=2 max=2
    default-fe352139b3 is recorded as number 1
    a1: gets default-fe352139b3 of generation 1
    a2: gets default-fe352139b3 of generation 1
    a3: gets default-fe352139b3 of generation 1
    b1: gets default-fe352139b3 of generation 1
    b2: gets default-fe352139b3 of generation 1
    b3: gets default-fe352139b3 of generation 1
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 0 of 6 nodes run revision default-fe352139b3; waiting for a1, a2, a3 and 3 more (since 12:02:00)
        Reconciling=True RollingOut (since 12:02:00)
    looks again at 12:07:00

> agents synced
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 6, ready 6, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 6 of 6 nodes run revision default-fe352139b3 (since 12:02:00)

A change. One canary node in each zone, the oldest there, and nobody else.

> wait 1h
> config default canary=2 max=2 resync=120
    default-5e2e8c4729 is recorded as number 2
    a1: gets default-5e2e8c4729 of generation 2
    b1: gets default-5e2e8c4729 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 0 of 6 nodes run revision default-5e2e8c4729; waiting for a1, b1; 4 nodes follow 1m0s from when canary nodes a1, b1 are in sync (since 13:02:00)
        Reconciling=True Canary (since 13:02:00)
    looks again at 13:07:00

They take it. Now they have to stay in sync for a minute.

> wait 2s
> agents synced
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 2 of 6 nodes run revision default-5e2e8c4729; waiting for a1, b1; 4 nodes follow at 13:03:00 UTC if canary nodes a1, b1 are in sync until then (since 13:02:00)
        Reconciling=True Canary (since 13:02:00)
    looks again at 13:02:10

A canary that falters has to begin anew.

> wait 40s
> agent b1 applied
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 1, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 1 of 6 nodes run revision default-5e2e8c4729; waiting for b1; 4 nodes follow 1m0s from when canary nodes a1, b1 are in sync (since 13:02:00)
        Reconciling=True Canary (since 13:02:00)
    looks again at 13:07:42

> wait 3s
> agent b1 synced
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 2 of 6 nodes run revision default-5e2e8c4729; waiting for b1; 4 nodes follow at 13:03:45 UTC if canary nodes a1, b1 are in sync until then (since 13:02:00)
        Reconciling=True Canary (since 13:02:00)
    looks again at 13:02:55

The rest follows, two at a time, zone by zone, the oldest first. A node counts when it has been in sync for 10 seconds.

> run
    --- 13:02:55
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 2 of 6 nodes run revision default-5e2e8c4729; 4 nodes follow at 13:03:45 UTC if canary nodes a1, b1 are in sync until then (since 13:02:00)
        Reconciling=True Canary (since 13:02:00)
    looks again at 13:03:45
    --- 13:03:45
    a2: gets default-5e2e8c4729 of generation 2
    a3: gets default-5e2e8c4729 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 2 of 6 nodes run revision default-5e2e8c4729; waiting for a2, a3; 2 nodes follow (since 13:02:00)
        Reconciling=True RollingOut (since 13:02:00)
    looks again at 13:08:45
    --- 13:03:45
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 4, ready 4, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 4 of 6 nodes run revision default-5e2e8c4729; waiting for a2, a3; 2 nodes follow (since 13:02:00)
        Reconciling=True RollingOut (since 13:02:00)
    looks again at 13:03:55
    --- 13:03:55
    b2: gets default-5e2e8c4729 of generation 2
    b3: gets default-5e2e8c4729 of generation 2
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 4, ready 4, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 4 of 6 nodes run revision default-5e2e8c4729; waiting for b2, b3 (since 13:02:00)
        Reconciling=True RollingOut (since 13:02:00)
    looks again at 13:08:55
    --- 13:03:55
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 6, ready 6, unavailable 0, failed 0; kstatus InProgress
        from default-fe352139b3 to default-5e2e8c4729
        Ready=False RollingOut: 6 of 6 nodes run revision default-5e2e8c4729; waiting for b2, b3 (since 13:02:00)
        Reconciling=True RollingOut (since 13:02:00)
    looks again at 13:04:05
    --- 13:04:05
    default: matched 6, overridden 0, conflicted 0, assigned 6, updated 6, ready 6, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 6 of 6 nodes run revision default-5e2e8c4729 (since 13:04:05)

A node that joins gets what is proven at once.

> node b4 zone=b
    b4: gets default-5e2e8c4729 of generation 2
    default: matched 7, overridden 0, conflicted 0, assigned 7, updated 6, ready 6, unavailable 0, failed 0; kstatus InProgress
        Ready=False RollingOut: 6 of 7 nodes run revision default-5e2e8c4729; waiting for b4 (since 13:04:05)
        Reconciling=True RollingOut (since 13:04:05)
    looks again at 13:09:05

> agents synced
    default: matched 7, overridden 0, conflicted 0, assigned 7, updated 7, ready 7, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 7 of 7 nodes run revision default-5e2e8c4729 (since 13:04:05)

Another change. What has proved itself is now what the last one brought.

> config default canary=2 max=2 resync=240
    default-1c102df8e4 is recorded as number 3
    a1: gets default-1c102df8e4 of generation 3
    b1: gets default-1c102df8e4 of generation 3
    default: matched 7, overridden 0, conflicted 0, assigned 7, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 0 of 7 nodes run revision default-1c102df8e4; waiting for a1, b1; 5 nodes follow 1m0s from when canary nodes a1, b1 are in sync (since 13:04:05)
        Reconciling=True Canary (since 13:04:05)
    looks again at 13:09:05

> node b5 zone=b
    b5: gets default-5e2e8c4729 of generation 3
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 0, ready 0, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 0 of 8 nodes run revision default-1c102df8e4; waiting for a1, b1; 6 nodes follow 1m0s from when canary nodes a1, b1 are in sync (since 13:04:05)
        Reconciling=True Canary (since 13:04:05)
    looks again at 13:09:05

> run
    --- 13:04:05
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 2 of 8 nodes run revision default-1c102df8e4; waiting for a1, b1; 6 nodes follow at 13:05:05 UTC if canary nodes a1, b1 are in sync until then (since 13:04:05)
        Reconciling=True Canary (since 13:04:05)
    looks again at 13:04:15
    --- 13:04:15
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 2 of 8 nodes run revision default-1c102df8e4; 6 nodes follow at 13:05:05 UTC if canary nodes a1, b1 are in sync until then (since 13:04:05)
        Reconciling=True Canary (since 13:04:05)
    looks again at 13:05:05
    --- 13:05:05
    a2: gets default-1c102df8e4 of generation 3
    a3: gets default-1c102df8e4 of generation 3
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 2, ready 2, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 2 of 8 nodes run revision default-1c102df8e4; waiting for a2, a3; 4 nodes follow (since 13:04:05)
        Reconciling=True RollingOut (since 13:04:05)
    looks again at 13:10:05
    --- 13:05:05
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 4, ready 4, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 4 of 8 nodes run revision default-1c102df8e4; waiting for a2, a3; 4 nodes follow (since 13:04:05)
        Reconciling=True RollingOut (since 13:04:05)
    looks again at 13:05:15
    --- 13:05:15
    b2: gets default-1c102df8e4 of generation 3
    b3: gets default-1c102df8e4 of generation 3
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 4, ready 4, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 4 of 8 nodes run revision default-1c102df8e4; waiting for b2, b3; 2 nodes follow (since 13:04:05)
        Reconciling=True RollingOut (since 13:04:05)
    looks again at 13:10:15
    --- 13:05:15
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 6, ready 6, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 6 of 8 nodes run revision default-1c102df8e4; waiting for b2, b3; 2 nodes follow (since 13:04:05)
        Reconciling=True RollingOut (since 13:04:05)
    looks again at 13:05:25
    --- 13:05:25
    b4: gets default-1c102df8e4 of generation 3
    b5: gets default-1c102df8e4 of generation 3
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 6, ready 6, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 6 of 8 nodes run revision default-1c102df8e4; waiting for b4, b5 (since 13:04:05)
        Reconciling=True RollingOut (since 13:04:05)
    looks again at 13:10:25
    --- 13:05:25
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 8, ready 8, unavailable 0, failed 0; kstatus InProgress
        from default-5e2e8c4729 to default-1c102df8e4
        Ready=False RollingOut: 8 of 8 nodes run revision default-1c102df8e4; waiting for b4, b5 (since 13:04:05)
        Reconciling=True RollingOut (since 13:04:05)
    looks again at 13:05:35
    --- 13:05:35
    default: matched 8, overridden 0, conflicted 0, assigned 8, updated 8, ready 8, unavailable 0, failed 0; kstatus Current
        Ready=True AllNodesReady: 8 of 8 nodes run revision default-1c102df8e4 (since 13:05:35)
