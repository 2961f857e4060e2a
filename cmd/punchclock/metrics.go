package main

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"punchclock/device"
	"punchclock/ui"
)

// metrics counts what the house does. Names and labels are the outside's.
type metrics struct {
	reg                   *prometheus.Registry
	punches               *prometheus.CounterVec
	commits, taps, frames prometheus.Histogram
	calls, tokens, faults *prometheus.CounterVec
	callSeconds           *prometheus.HistogramVec
}

func newMetrics() *metrics {
	// From a fast disk to a tired card: 0.5 ms to 8 s.
	fine := prometheus.ExponentialBuckets(0.0005, 2, 15)
	m := &metrics{
		reg: prometheus.NewRegistry(),
		punches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "punchclock_punches_total",
			Help: "Answers to taps, by outcome."}, []string{"outcome", "kind", "reader"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "punchclock_commit_seconds",
			Help: "How long a commit of punches took, syncs included.", Buckets: fine}),
		taps: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "punchclock_tap_seconds",
			Help: "From the last byte or edge of a card to its answer.", Buckets: fine}),
		frames: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "punchclock_screen_seconds",
			Help: "From an answer to its picture on the door's screen.", Buckets: fine}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "punchclock_destination_calls_total",
			Help: "Calls to a destination, those for tokens included, by HTTP status or kind of failure."}, []string{"destination", "code"}),
		callSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "punchclock_destination_seconds",
			Help: "How long a call to a destination took.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)}, []string{"destination"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "punchclock_token_refresh_total",
			Help: "Tokens asked for, by result."}, []string{"destination", "result"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "punchclock_reader_faults_total",
			Help: "What a reader threw away, by fault."}, []string{"reader", "fault"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "punchclock_build_info", Help: "1, with the version as a label."},
		[]string{"version", "goversion"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.reg.MustRegister(m.punches, m.commits, m.taps, m.frames, m.calls, m.callSeconds, m.tokens, m.faults, build,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{})
}

func (m *metrics) commit(took time.Duration, _ int)    { m.commits.Observe(took.Seconds()) }
func (m *metrics) tap(took time.Duration, _ ui.Result) { m.taps.Observe(took.Seconds()) }
func (m *metrics) drawn(took time.Duration)            { m.frames.Observe(took.Seconds()) }
func (m *metrics) token(dest, result string)           { m.tokens.WithLabelValues(dest, result).Inc() }
func (m *metrics) result(r ui.Result)                  { m.punches.WithLabelValues(r.Outcome, r.Kind, r.Reader).Inc() }
func (m *metrics) call(dest, code string, took time.Duration) {
	m.calls.WithLabelValues(dest, code).Inc()
	m.callSeconds.WithLabelValues(dest).Observe(took.Seconds())
}

// count passes events on, each as hear leaves it, and counts faults on the way. It
// ends when in is closed, and closes out then.
func (m *metrics) count(in <-chan device.Event, out chan<- device.Event, hear func(device.Event) device.Event) {
	defer close(out)
	for e := range in {
		if e.What == device.Fault {
			m.faults.WithLabelValues(e.Reader, e.Fault).Inc()
		}
		out <- hear(e)
	}
}

// watch adds what is read at the moment of the scrape, and begins counters at 0: whoever
// looks at how much one grew does not see the first step of one that comes with it.
func (m *metrics) watch(h *clockwork) {
	m.reg.MustRegister(&picture{h: h})
	for _, w := range h.workers {
		m.calls.WithLabelValues(w.cfg().Name, "200")
		m.callSeconds.WithLabelValues(w.cfg().Name)
		for _, result := range []string{"ok", "denied", "error"} {
			m.tokens.WithLabelValues(w.cfg().Name, result)
		}
	}
	for _, r := range h.cfg.Readers {
		for _, fault := range []string{device.FaultChecksum, device.FaultLength, device.FaultFormat, device.FaultTimeout, device.FaultNoise, device.FaultLost} {
			m.faults.WithLabelValues(r.Name, fault)
		}
	}
}

// picture turns the status into gauges.
type picture struct{ h *clockwork }

var (
	descPending = prometheus.NewDesc("punchclock_outbox_pending", "Punches still to be settled at a destination.", []string{"destination"}, nil)
	descParked  = prometheus.NewDesc("punchclock_outbox_parked", "Punches that wait for a person.", []string{"destination"}, nil)
	descOldest  = prometheus.NewDesc("punchclock_outbox_oldest_seconds", "Age of the oldest pending punch.", []string{"destination"}, nil)
	descChecked = prometheus.NewDesc("punchclock_reconcile_checked", "Delivered punches that the last reconciliation could check.", []string{"destination"}, nil)
	descMissing = prometheus.NewDesc("punchclock_reconcile_missing", "Of these, those that the destination does not show.", []string{"destination"}, nil)
	descDoubled = prometheus.NewDesc("punchclock_reconcile_doubled", "Copies that the destination holds beyond the first.", []string{"destination"}, nil)
	descLast    = prometheus.NewDesc("punchclock_reconcile_last_seconds", "How long ago the last reconciliation was finished.", []string{"destination"}, nil)
	descReader  = prometheus.NewDesc("punchclock_reader_up", "1 while the reader is there.", []string{"reader"}, nil)
	descBound   = prometheus.NewDesc("punchclock_clock_error_bound_seconds", "How far the wall clock could be off.", nil, nil)
	descSkew    = prometheus.NewDesc("punchclock_clock_server_skew_seconds", "How far a destination's clock is ahead of this one, by its last answer.", []string{"destination"}, nil)
	descBytes   = prometheus.NewDesc("punchclock_outbox_bytes", "Size of the outbox files.", nil, nil)
	descMended  = prometheus.NewDesc("punchclock_outbox_incident", "1 when a damaged file was found and mended since the start.", nil, nil)
	descFree    = prometheus.NewDesc("punchclock_disk_free_bytes", "Free space of the outbox's file system.", nil, nil)
	descBehind  = prometheus.NewDesc("punchclock_outbox_mirror_behind", "Punches that are not in the second copy yet.", nil, nil)
	descReady   = prometheus.NewDesc("punchclock_ready", "1 while a punch could be stored.", nil, nil)
	descHour    = prometheus.NewDesc("punchclock_reader_hour_punches", "Punches of the last whole hour.", []string{"reader"}, nil)
	descUsual   = prometheus.NewDesc("punchclock_reader_usual_hour_punches", "The fewest punches in that hour of that weekday, in the four weeks before; 0 while two are not known.", []string{"reader"}, nil)
	descOneCard = prometheus.NewDesc("punchclock_reader_one_card_hour_punches", "The most punches by one card in the last whole hour.", []string{"reader"}, nil)
	descRunway  = prometheus.NewDesc("punchclock_outbox_runway_days", "For how many days there is space at this site's rate.", nil, nil)
	descWritten = prometheus.NewDesc("punchclock_disk_written_bytes_total", "Bytes written to the disk or card of the outbox since the machine's start, whoever wrote them.", nil, nil)
)

var pictureDescs = []*prometheus.Desc{descPending, descParked, descOldest, descChecked, descMissing, descDoubled, descLast, descReader, descBound, descSkew, descBytes, descMended, descFree, descBehind, descReady, descHour, descUsual, descOneCard, descRunway, descWritten}

func (p *picture) Describe(c chan<- *prometheus.Desc) {
	for _, d := range pictureDescs {
		c <- d
	}
}

func (p *picture) Collect(c chan<- prometheus.Metric) {
	s := p.h.status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	yes := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for _, d := range s.Destinations {
		gauge(descPending, float64(d.Pending), d.Name)
		gauge(descParked, float64(d.Parked), d.Name)
		gauge(descOldest, d.OldestUnsentSeconds, d.Name)
		if r := d.Reconcile; r != nil && r.At != "" {
			if at, err := time.Parse(milliLayout, r.At); err == nil {
				gauge(descLast, time.Since(at).Seconds(), d.Name)
			}
			gauge(descChecked, float64(r.Checked), d.Name)
			gauge(descMissing, float64(r.Missing), d.Name)
			gauge(descDoubled, float64(r.Doubled), d.Name)
		}
	}
	for _, r := range s.Readers {
		gauge(descReader, yes(r.State == "ok"), r.Name)
		if t := r.Traffic; t != nil {
			gauge(descHour, float64(t.Hour), r.Name)
			gauge(descUsual, float64(t.Usual), r.Name)
			gauge(descOneCard, float64(t.OneCard), r.Name)
		}
	}
	gauge(descBound, float64(s.Clock.ErrorBoundMS)/1000)
	for dest, d := range p.h.skew.all() {
		gauge(descSkew, d.Seconds(), dest)
	}
	gauge(descBytes, float64(s.Outbox.Bytes))
	gauge(descMended, yes(s.Outbox.Incident != ""))
	gauge(descFree, float64(s.Outbox.FreeBytes))
	gauge(descBehind, float64(s.Outbox.Mirror.Behind))
	gauge(descReady, yes(s.Outbox.Ready))
	if s.Outbox.RunwayDays != nil {
		gauge(descRunway, *s.Outbox.RunwayDays)
	}
	if n, known := diskWritten("/", deviceOf(p.h.cfg.Device.StateDir)); known {
		c <- prometheus.MustNewConstMetric(descWritten, prometheus.CounterValue, n)
	}
}
