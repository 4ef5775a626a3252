package ipvs

import (
	"hash/fnv"
	"math/bits"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// markBits is how many bits of the packet mark tell virtual servers apart: the lowest ones, the bit that asks for
// masquerading left out. Those above belong to others: the kubelet drops what carries bit 15, and network plugins take the
// upper half.
const markBits = 14

// Marks are all bits of the packet mark by which virtual servers may be found, whichever bit asks for masquerading.
const Marks uint32 = 1<<(markBits+1) - 1

// Fewer bits than fewestBits, as in 0x1, 0x80 or 100, are what others put on packets of their own; none of ours has so few.
const fewestBits = 5

// pooled is a virtual server that is found by a mark: one pool of one Service port.
type pooled struct {
	id   forwarding.PortID
	pool forwarding.Pool
}

// marks gives virtual servers their marks. The same Service port gets the same mark after a restart, unless two want one.
type marks struct {
	numbers map[pooled]uint32
	holders map[uint32]pooled
}

func newMarks() *marks {
	return &marks{numbers: map[pooled]uint32{}, holders: map[uint32]pooled{}}
}

// number is the number of a virtual server, 0 when there are no more.
func (m *marks) number(p pooled) uint32 {
	if n, ok := m.numbers[p]; ok {
		return n
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.id.String() + "/" + p.id.Protocol.String())) // never fails
	_, _ = h.Write([]byte{byte(p.pool)})
	const all = 1 << markBits
	for i := range uint32(all) {
		n := (h.Sum32() + i) % all
		if _, taken := m.holders[n]; taken || bits.OnesCount32(n) < fewestBits {
			continue
		}
		m.numbers[p], m.holders[n] = n, p
		return n
	}
	return 0
}

// release gives up the marks of a Service port.
func (m *marks) release(id forwarding.PortID) {
	for _, pool := range []forwarding.Pool{forwarding.Cluster, forwarding.Local} {
		p := pooled{id, pool}
		if n, ok := m.numbers[p]; ok {
			delete(m.numbers, p)
			delete(m.holders, n)
		}
	}
}

// spread lays a number out over the bits of the packet mark that are ours.
func spread(number uint32, masqueradeBit int) uint32 {
	if masqueradeBit >= markBits {
		return number
	}
	low := uint32(1)<<masqueradeBit - 1
	return number&low | number&^low<<1
}
