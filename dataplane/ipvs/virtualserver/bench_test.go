package virtualserver_test

import (
	"testing"

	"github.com/moby/ipvs"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

// BenchmarkServices writes, changes and reads 10,000 virtual servers with a real server each.
func BenchmarkServices(b *testing.B) {
	const services = 10_000
	if err := tryNamespace(); err != nil {
		b.Fatal(err)
	}
	servers, err := virtualserver.Open()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = servers.Close() })
	reader, err := ipvs.New("") // in this namespace, which a sub-benchmark is not in
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(reader.Close)
	add := manyServers(services)
	var remove, one virtualserver.Batch
	for i := 0; i < len(add); i += 2 {
		remove.DeleteServer(add[i].Server.Key)
	}
	key := add[services].Server.Key
	one.AddReal(key, realServer("10.2.0.1:8080", 1))
	one.DeleteReal(key, realServer("10.2.0.1:8080", 0))
	// report makes a change, and says what it took.
	report := func(b *testing.B, batch virtualserver.Batch) {
		before := servers.Sent()
		for b.Loop() {
			if failures := servers.Do(b.Context(), batch); len(failures) > 0 {
				b.Fatal(failures[0])
			}
		}
		after := servers.Sent()
		b.ReportMetric(float64(after.Messages-before.Messages)/float64(b.N), "messages/op")
		b.ReportMetric(float64(after.Calls-before.Calls)/float64(b.N), "sends/op")
	}
	b.Run("write and remove", func(b *testing.B) { report(b, append(append(virtualserver.Batch{}, add...), remove...)) })
	if failures := servers.Do(b.Context(), add); len(failures) > 0 {
		b.Fatal(failures[0])
	}
	b.Run("one real server comes and goes", func(b *testing.B) { report(b, one) })
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			states, err := servers.List(b.Context())
			if err != nil || len(states) != services {
				b.Fatalf("%d virtual servers, %v", len(states), err)
			}
		}
	})
	b.Run("read with moby/ipvs", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			found, err := reader.GetServices()
			if err != nil || len(found) != services {
				b.Fatalf("%d virtual servers, %v", len(found), err)
			}
			for _, s := range found {
				if _, err := reader.GetDestinations(s); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
