package agent

import (
	"fmt"
	"math"
	"regexp"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// interfaceName is what the API takes for a name of an interface, or for what names of interfaces begin with.
const interfaceName = `^[A-Za-z0-9._-]{1,15}$`

// checkFile refuses what a file may say and an API server would not let pass, as far as it could do harm: a text that goes
// into rules, and numbers with which the agent would be busy all the time.
func checkFile(s *v1alpha1.ProxySettings) error {
	if name := s.Masquerade.LocalTraffic.Interface; name != "" {
		if ok, err := regexp.MatchString(interfaceName, name); !ok || err != nil {
			return fmt.Errorf("spec.masquerade.localTraffic.interface: %q is not like the name of an interface, %s", name, interfaceName)
		}
	}
	for _, number := range []struct {
		field string
		value *int32
		least int32
	}{
		{"spec.sync.fullIntervalSeconds", s.Sync.FullIntervalSeconds, 10},
		{"spec.sync.minIntervalMilliseconds", s.Sync.MinIntervalMilliseconds, 0},
		{"spec.ipvs.drainTimeoutSeconds", s.IPVS.DrainTimeoutSeconds, 0},
		{"spec.ipvs.tcpTimeoutSeconds", s.IPVS.TCPTimeoutSeconds, 0},
		{"spec.ipvs.tcpFinTimeoutSeconds", s.IPVS.TCPFinTimeoutSeconds, 0},
		{"spec.ipvs.udpTimeoutSeconds", s.IPVS.UDPTimeoutSeconds, 0},
		{"spec.conntrack.maxPerCore", s.Conntrack.MaxPerCore, 0},
		{"spec.conntrack.min", s.Conntrack.Min, 0},
	} {
		if number.value != nil && *number.value < number.least {
			return fmt.Errorf("%s: %d is not between %d and %d", number.field, *number.value, number.least, math.MaxInt32)
		}
	}
	return nil
}
