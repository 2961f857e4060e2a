// The kiosk page. It shows what the daemon says and decides nothing: the kind of
// the next tap, the outcome of a tap and the time of day all come from there.
"use strict";
(() => {
	const byId = (id) => document.getElementById(id);
	const root = document.documentElement;
	const T = JSON.parse(byId("words").textContent);
	// Sentences come with the verbs of Go's fmt: %d, %s, or %[2]s for the second.
	function say(key, ...values) {
		let next = 0;
		return (T[key] || "").replace(/%(?:\[(\d+)\])?[ds]/g, (_, n) => values[n ? n - 1 : next++]);
	}

	// ---- The device's clock -------------------------------------------------
	// The browser's own clock and zone are not asked: a time of the device is
	// carried on by the monotonic clock until the next one comes.
	const base = { utc: 0, zone: 0, at: 0 };
	function setTime(text) {
		const zone = /([+-])(\d\d):(\d\d)$/.exec(text);
		base.utc = Date.parse(text);
		base.zone = zone ? (zone[1] === "-" ? -1 : 1) * (zone[2] * 60 + +zone[3]) * 60000 : 0;
		base.at = performance.now();
	}
	const now = () => base.utc + performance.now() - base.at;
	// A Date whose UTC fields are the device's wall clock.
	const wall = (ms) => new Date(ms + base.zone);
	const two = (n) => String(n).padStart(2, "0");
	const clockText = (d) => two(d.getUTCHours()) + ":" + two(d.getUTCMinutes()) + ":" + two(d.getUTCSeconds());
	// Today's date and tomorrow's, in words, and the day of the month they are from.
	let dates = null, datesFrom = 0;

	function put(el, text) {
		if (el.textContent !== text) el.textContent = text;
	}

	function tick() {
		const d = wall(now());
		put(byId("clock"), clockText(d));
		if (dates) put(byId("date"), dates[d.getUTCDate() === datesFrom ? 0 : 1]);
		drawWhy();
		drawLine();
		// The line is dead when not even a pulse came: the browser may not notice.
		if (source && performance.now() - heard > 50000) connect();
		setTimeout(tick, 1000 - d.getUTCMilliseconds() + 5);
	}

	// ---- Idle -----------------------------------------------------------------
	let screen = JSON.parse(byId("first").textContent);
	let online = false, asked = false, ready = true;
	let passing = "", passingUntil = 0;
	const buttons = [...document.querySelectorAll("#kinds button")];

	function drawScreen() {
		for (const b of buttons) b.setAttribute("aria-pressed", String(b.dataset.kind === screen.kind));
		const doubt = byId("doubt");
		doubt.hidden = screen.clock === "synced";
		put(doubt, doubt.hidden ? "" : T["clock." + screen.clock] || "");
		drawWhy();
		drawNotice();
	}

	function drawWhy() {
		let why = T["why." + screen.why] || "";
		if (screen.why === "chosen" && screen.until) {
			const left = Math.ceil((Date.parse(screen.until) - now()) / 1000);
			if (left > 0 && left < 600) why = say("chosen.for", left);
		}
		for (const b of buttons) put(b.querySelector(".why"), b.dataset.kind === screen.kind ? why : "");
		put(byId("prompt"), screen.kind || !why ? T["idle.tap"] : T["idle.tap"] + " · " + why);
	}

	function drawNotice() {
		const down = (screen.readers || []).filter((r) => r.state === "down").map((r) => r.name);
		let text = "";
		if (asked && !online) text = T["page.lost"];
		else if (!ready) text = T["not.ready"];
		else if (performance.now() < passingUntil) text = passing;
		else if (down.length) text = say("reader.down", down.join(", "));
		put(byId("notice"), text);
		document.body.classList.toggle("noticed", text !== "");
	}

	function notify(text) {
		passing = text;
		passingUntil = performance.now() + 4000;
		drawNotice();
		setTimeout(drawNotice, 4100);
	}

	let status = null, statusAt = 0;
	function setStatus(s) {
		status = s;
		statusAt = performance.now();
		drawLine();
	}
	// The largest unit of which there are two, as the catalog counts.
	function age(seconds) {
		if (seconds >= 172800) return say("for.days", Math.floor(seconds / 86400));
		if (seconds >= 7200) return say("for.hours", Math.floor(seconds / 3600));
		if (seconds >= 120) return say("for.minutes", Math.floor(seconds / 60));
		return say("for.seconds", Math.floor(seconds));
	}
	function drawLine() {
		const line = byId("line");
		if (!status || !status.destinations) return put(line, "");
		// Destinations take the same punches in the same order: the one furthest
		// behind tells how many have not arrived everywhere.
		let pending = 0, oldest = 0, parked = 0, stuck = false, away = 0;
		for (const d of status.destinations) {
			pending = Math.max(pending, d.pending || 0);
			oldest = Math.max(oldest, d.oldest_unsent_seconds || 0);
			parked += d.parked || 0;
			if (d.state === "retrying") away++;
			else if (d.state !== "ok") stuck = true;
		}
		const parts = [];
		if (away && away === status.destinations.length) parts.push(T.offline);
		if (pending) {
			const since = age(oldest + (performance.now() - statusAt) / 1000);
			parts.push(say(pending === 1 ? "idle.pending.one" : "idle.pending.many", pending, since));
		}
		if (parked) parts.push(say(parked === 1 ? "idle.parked.one" : "idle.parked.many", parked));
		const box = status.outbox || {};
		if (box.incident) parts.push(T["outbox.mended"]);
		if (box.low_space) parts.push(T["space.low"]);
		stuck = stuck || !!box.incident || !!box.low_space;
		line.dataset.state = stuck || parked ? "stuck" : parts.length ? "wait" : "done";
		put(line, parts.join(" · ") || T["idle.sent"]);
	}

	// ---- Result ---------------------------------------------------------------
	const panel = byId("result");
	const part = (name) => panel.querySelector("." + name);
	let shown = "", hideTimer = 0;
	const keyOf = (r) => r.outcome + " " + (r.punch_id || r.time);

	function show(r, sound) {
		const key = keyOf(r);
		if (key === shown) return;
		shown = key;
		closePIN();
		const word = T["kind." + r.kind] || "";
		const stored = r.outcome === "stored", unset = stored && r.clock === "unset";
		const sentence = r.reason && T["outcome." + r.outcome + "." + r.reason] ||
			T["outcome." + r.outcome + (unset ? ".unset" : "")] || r.outcome;
		const head = stored ? word : sentence;
		const name = r.name || r.employee_no || "";
		const note = !stored ? "" : unset ? sentence : sentence + " · " + (T["greet." + r.kind] || "");
		// Of a stored punch the kind is the head; elsewhere it stands with the time,
		// if anything was kept at all.
		const at = r.outcome === "misread" ? "" :
			(stored || r.outcome === "not_stored" ? "" : word + " ") + clockText(wall(Date.parse(r.time)));
		panel.dataset.outcome = r.outcome;
		panel.classList.toggle("long", !stored);
		panel.classList.toggle("wide", name.length > 14);
		panel.querySelector("use").setAttribute("href", "#sym-" + (unset ? "unset" : r.outcome));
		// One clause a line: a person has a second to read it.
		put(part("head"), head.replace(/([，；;.]) ?(?=.)/g, "$1\n"));
		put(part("name"), name);
		put(part("say"), note);
		put(part("time"), at);
		panel.hidden = false;
		put(byId("spoken"), [head, name, note, at].filter(Boolean).join(root.lang.startsWith("zh") ? "，" : ", "));
		if (sound) beep(r.outcome === "stored" ? r.kind : r.outcome);
		clearTimeout(hideTimer);
		hideTimer = setTimeout(() => {
			panel.hidden = true;
			put(byId("spoken"), "");
		}, 2500);
	}

	// ---- Sound ----------------------------------------------------------------
	// Rhythm tells the outcomes apart, not pitch alone. [hertz, start, length] in ms.
	const patterns = {
		in: [[880, 0, 90], [1175, 120, 160]],
		out: [[1175, 0, 160], [880, 190, 90]],
		"go-out": [[988, 0, 60], [988, 100, 60], [1319, 200, 180]],
		return: [[1319, 0, 180], [988, 220, 60], [988, 320, 60]],
		duplicate: [[660, 0, 60], [660, 110, 60]],
		unknown_badge: [[587, 0, 220], [587, 320, 220]],
		misread: [[440, 0, 420]],
		not_stored: [[294, 0, 110], [294, 160, 110], [294, 320, 110], [294, 480, 110], [220, 640, 600]],
	};
	let audio = null;
	try {
		audio = new (window.AudioContext || window.webkitAudioContext)();
	} catch (_) { /* no sound device: the screen says it all */ }
	function unlock() {
		if (audio && audio.state === "suspended") audio.resume().catch(() => {});
	}
	addEventListener("pointerdown", unlock, { passive: true });
	addEventListener("keydown", unlock);
	function beep(name) {
		try {
			if (!audio || audio.state !== "running") return;
			for (const [hertz, start, length] of patterns[name] || []) {
				const t = audio.currentTime + start / 1000, end = t + length / 1000;
				const tone = audio.createOscillator(), loud = audio.createGain();
				tone.type = "triangle";
				tone.frequency.value = hertz;
				loud.gain.setValueAtTime(0, t);
				loud.gain.linearRampToValueAtTime(0.5, t + 0.008);
				loud.gain.setValueAtTime(0.5, end - 0.02);
				loud.gain.linearRampToValueAtTime(0, end);
				tone.connect(loud).connect(audio.destination);
				tone.start(t);
				tone.stop(end);
			}
		} catch (_) { /* a punch without a beep is still a punch */ }
	}

	// ---- The event stream -------------------------------------------------------
	let source = null, heard = 0, live = false, lastId = "", missed = null, again = 0;

	function connect() {
		clearTimeout(again);
		if (source) source.close();
		heard = performance.now();
		live = false;
		missed = null;
		source = new EventSource("/events" + (lastId ? "?last_event_id=" + encodeURIComponent(lastId) : ""));
		source.onopen = () => {
			live = false;
			missed = null;
			online = asked = true;
			heard = performance.now();
			drawNotice();
			fetchStatus();
		};
		source.onerror = () => {
			online = false;
			asked = true;
			drawNotice();
			// Refused for good, as far as the browser is concerned; not so for us.
			if (source.readyState === EventSource.CLOSED) {
				clearTimeout(again);
				again = setTimeout(connect, 2000);
			}
		};
		const on = (name, take) => source.addEventListener(name, (e) => {
			heard = performance.now();
			take(JSON.parse(e.data), e);
		});
		on("result", (r, e) => {
			lastId = e.lastEventId;
			// What was missed while away is history, unless it is what stands on
			// the screen right now; the first screen event decides.
			if (live) show(r, true);
			else missed = r;
		});
		on("screen", (s) => {
			screen = s;
			drawScreen();
			if (live) return;
			live = true;
			const fresh = missed && Math.abs(now() - Date.parse(missed.time)) < 2500;
			if (s.result || fresh) show(s.result || missed, Boolean(fresh));
		});
		on("status", setStatus);
		on("pulse", (p) => {
			if (p.page !== root.dataset.version) return location.reload();
			setTime(p.now);
			dates = p.dates;
			datesFrom = wall(base.utc).getUTCDate();
			ready = p.ready;
			drawNotice();
		});
	}

	async function fetchStatus() {
		try {
			const answer = await fetch("/api/status", { cache: "no-store" });
			if (answer.ok) setStatus(await answer.json());
		} catch (_) { /* the stream's own error tells that the line is gone */ }
	}

	const post = (path, body) => fetch(path, {
		method: "POST",
		headers: { "Content-Type": "application/json" },
		body: JSON.stringify(body),
	});

	// ---- Kinds ------------------------------------------------------------------
	async function choose(kind) {
		try {
			if ((await post("/api/kind", { kind })).ok) return;
		} catch (_) { /* told below */ }
		notify(T["page.lost"]);
	}
	for (const b of buttons) b.addEventListener("click", () => choose(b.dataset.kind));

	addEventListener("keydown", (e) => {
		if (e.ctrlKey || e.altKey || e.metaKey) return;
		const key = /^(?:F([1-4])|([1-4]))$/.exec(e.key);
		if (!key || (key[2] && pin.open)) return;
		e.preventDefault();
		if (e.repeat) return;
		closePIN();
		choose(buttons[(key[1] || key[2]) - 1].dataset.kind);
	});
	addEventListener("contextmenu", (e) => e.preventDefault());
	addEventListener("dragstart", (e) => e.preventDefault());

	// ---- Number and PIN -----------------------------------------------------------
	const pin = byId("pin"), number = byId("pin-number"), secret = byId("pin-pin");
	let field = number, pinTimer = 0, busy = false;

	function closePIN() {
		if (pin.open) pin.close();
	}
	function keepPIN() {
		clearTimeout(pinTimer);
		pinTimer = setTimeout(closePIN, 30000);
	}
	pin.addEventListener("close", () => {
		clearTimeout(pinTimer);
		number.value = secret.value = "";
		put(byId("pin-error"), "");
	});
	byId("pin-open").addEventListener("click", () => {
		pin.showModal();
		number.focus();
		keepPIN();
	});
	byId("pin-cancel").addEventListener("click", closePIN);
	for (const f of [number, secret]) f.addEventListener("focus", () => { field = f; });
	pin.addEventListener("pointerdown", keepPIN);
	pin.addEventListener("keydown", keepPIN);
	for (const b of document.querySelectorAll(".pad button[type=button]")) {
		// The field keeps the focus: the caret is where the digits go.
		b.addEventListener("pointerdown", (e) => e.preventDefault());
		b.addEventListener("click", () => {
			if (b.id === "pin-clear") field.value = "";
			else if (field.value.length < 64) field.value += b.textContent;
			field.focus();
		});
	}
	pin.querySelector("form").addEventListener("submit", async (e) => {
		e.preventDefault();
		const trouble = (text) => {
			put(byId("pin-error"), text);
			secret.value = "";
			(number.value ? secret : number).focus();
		};
		if (!number.value) return number.focus();
		if (!secret.value) return secret.focus();
		if (busy) return;
		busy = true;
		put(byId("pin-error"), "");
		try {
			const answer = await post("/api/pin", { employee_no: number.value, pin: secret.value });
			const body = await answer.json();
			if (body.outcome) {
				closePIN();
				// The stream brings it, in its order among the others.
				if (!online || !live) show(body, true);
			} else if (answer.status === 403) trouble(T["pin.wrong"]);
			else if (answer.status === 429) trouble(say("pin.wait", answer.headers.get("Retry-After") || 60));
			else trouble(T["outcome.not_stored"]);
		} catch (_) {
			trouble(T["page.lost"]);
		}
		busy = false;
	});

	setTime(root.dataset.now);
	drawScreen();
	tick();
	connect();
})();
