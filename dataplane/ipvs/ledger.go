package ipvs

// ledger compares what is wanted of something in the kernel with what the kernel holds, and knows what differs without
// looking at the rest. Several may want the same; the last says how.
type ledger[K, V comparable] struct {
	want map[K]wanted[V]
	have map[K]V
	// touched are the keys that may differ.
	touched map[K]struct{}
}

type wanted[V comparable] struct {
	value V
	by    int
}

func newLedger[K, V comparable]() *ledger[K, V] {
	return &ledger[K, V]{want: map[K]wanted[V]{}, have: map[K]V{}, touched: map[K]struct{}{}}
}

func (l *ledger[K, V]) claim(key K, value V) {
	l.want[key] = wanted[V]{value, l.want[key].by + 1}
	l.touched[key] = struct{}{}
}

func (l *ledger[K, V]) retract(key K) {
	w := l.want[key]
	if w.by--; w.by <= 0 {
		delete(l.want, key)
	} else {
		l.want[key] = w
	}
	l.touched[key] = struct{}{}
}

// retractAll gives up every claim.
func (l *ledger[K, V]) retractAll() {
	for key := range l.want {
		l.touched[key] = struct{}{}
	}
	clear(l.want)
}

// found tells what the kernel holds. Everything may differ then.
func (l *ledger[K, V]) found(have map[K]V) {
	l.have = have
	for key := range l.have {
		l.touched[key] = struct{}{}
	}
	for key := range l.want {
		l.touched[key] = struct{}{}
	}
}

// missing are what the kernel lacks, or holds otherwise.
func (l *ledger[K, V]) missing(each func(key K, value V)) {
	for key := range l.touched {
		w, wanted := l.want[key]
		if held, ok := l.have[key]; wanted && (!ok || held != w.value) {
			each(key, w.value)
		}
	}
}

// surplus are what the kernel holds and nobody wants.
func (l *ledger[K, V]) surplus(each func(key K, value V)) {
	for key := range l.touched {
		if _, wanted := l.want[key]; wanted {
			continue
		}
		if held, ok := l.have[key]; ok {
			each(key, held)
		}
	}
}

// settled tells that the kernel holds what is wanted.
func (l *ledger[K, V]) settled() {
	for key := range l.touched {
		if w, wanted := l.want[key]; wanted {
			l.have[key] = w.value
		} else {
			delete(l.have, key)
		}
	}
	clear(l.touched)
}
