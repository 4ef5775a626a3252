package modeswitch

import "strings"

// parseServers takes the virtual servers out of /proc/net/ip_vs.
func parseServers(table string) []string {
	var servers []string
	for line := range strings.Lines(table) {
		for _, kind := range []string{"TCP ", "UDP ", "FWM "} {
			if strings.HasPrefix(line, kind) {
				servers = append(servers, strings.TrimSpace(line))
			}
		}
	}
	return servers
}
