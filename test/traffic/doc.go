// Package traffic holds connections open and opens new ones all the time, from any host of a test cluster, and knows
// exactly which of them failed, when and why. It is how tests and demos show that what happens on the way disturbs
// nobody.
//
//	stream := traffic.Open(ctx, pod.Host, "tcp", "10.96.0.80:80", 5*time.Millisecond)
//	held, err := traffic.Hold(ctx, pod.Host, "10.96.0.80:80", 20)
//	... something happens ...
//	tally := stream.Take()      // tally.Failed == 0
//	err = held.Broken("web-3")  // nil: only connections to web-3 ended
package traffic
