package kiosk

import (
	"maps"
	"slices"
	"sync"

	"punchclock/ui"
)

// mailbox holds one value; a newer one replaces one that waits. It has one sender.
type mailbox[T any] chan T

func newMailbox[T any]() mailbox[T] { return make(mailbox[T], 1) }

// put never blocks.
func (m mailbox[T]) put(v T) {
	for {
		select {
		case m <- v:
			return
		default:
		}
		select {
		case <-m: // the older one, unless it was taken just now
		default:
		}
	}
}

// run hands each value to take, until the box is closed and empty.
func (m mailbox[T]) run(take func(T)) {
	for v := range m {
		take(v)
	}
}

// queue keeps results in order until they are taken, however many there are.
type queue struct {
	mu     sync.Mutex
	items  []ui.Result
	closed bool
	wake   chan struct{} // size one: something has changed
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// put never blocks.
func (q *queue) put(r ui.Result) {
	q.mu.Lock()
	q.items = append(q.items, r)
	q.mu.Unlock()
	q.ring()
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ring()
}

func (q *queue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run hands each result to take, until the queue is closed and empty.
func (q *queue) run(take func(ui.Result)) {
	for {
		q.mu.Lock()
		items, closed := q.items, q.closed
		q.items = nil
		q.mu.Unlock()
		for _, r := range items {
			take(r)
		}
		if len(items) == 0 {
			if closed {
				return
			}
			<-q.wake
		}
	}
}

// statusBoard is a copy of the readers' status for whoever asks.
type statusBoard struct {
	mu      sync.Mutex
	readers []ReaderStatus
}

func (b *statusBoard) set(readers []ReaderStatus) {
	c := copyStatus(readers)
	b.mu.Lock()
	b.readers = c
	b.mu.Unlock()
}

func (b *statusBoard) get() []ReaderStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return copyStatus(b.readers)
}

func copyStatus(readers []ReaderStatus) []ReaderStatus {
	c := slices.Clone(readers)
	for i := range c {
		c[i].Faults = maps.Clone(c[i].Faults)
	}
	return c
}
