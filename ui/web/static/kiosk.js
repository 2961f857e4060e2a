// The kiosk page. It shows what the daemon says and decides nothing: the kind of
// the next tap, the outcome of a tap and the time of day all come from there.
"use strict";
(() => {
	const byId = (id) => document.getElementById(id);
	const root = document.documentElement;
	const T = JSON.parse(byId("words").textContent);
	const say = (key, values) => (T[key] || "").replace(/\{(\w+)\}/g, (_, k) => values[k]);

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
	let dateForm = null;
	try {
		dateForm = new Intl.DateTimeFormat(root.lang, { timeZone: "UTC", year: "numeric", month: "long", day: "numeric", weekday: "long" });
	} catch (_) { /* an old browser: the date stays in digits */ }
	const dateText = (d) => dateForm ? dateForm.format(d) : d.toISOString().slice(0, 10);

	function put(el, text) {
		if (el.textContent !== text) el.textContent = text;
	}

	function tick() {
		const d = wall(now());
		put(byId("clock"), clockText(d));
		put(byId("date"), dateText(d));
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
			if (left > 0 && left < 600) why = say("why.chosen.left", { n: left });
		}
		for (const b of buttons) put(b.querySelector(".why"), b.dataset.kind === screen.kind ? why : "");
		put(byId("prompt"), screen.kind || !why ? T.prompt : T.prompt + " · " + why);
	}

	function drawNotice() {
		const down = (screen.readers || []).filter((r) => r.state === "down").map((r) => r.name);
		let text = "";
		if (asked && !online) text = T.offline;
		else if (!ready) text = T.unready;
		else if (performance.now() < passingUntil) text = passing;
		else if (down.length) text = say("reader.down", { names: down.join(", ") });
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
	function age(seconds) {
		if (seconds < 60) return say("age.seconds", { n: Math.floor(seconds) });
		if (seconds < 3600) return say("age.minutes", { n: Math.floor(seconds / 60) });
		if (seconds < 86400) return say("age.hours", { n: Math.floor(seconds / 3600) });
		return say("age.days", { n: Math.floor(seconds / 86400) });
	}
	function drawLine() {
		const line = byId("line");
		if (!status || !status.destinations) return put(line, "");
		// Destinations take the same punches in the same order: the one furthest
		// behind tells how many have not arrived everywhere.
		let pending = 0, oldest = 0, state = "ok", text;
		for (const d of status.destinations) {
			pending = Math.max(pending, d.pending || 0);
			oldest = Math.max(oldest, d.oldest_unsent_seconds || 0);
			if (d.state === "auth_failed" || d.state === "misconfigured") state = "stuck";
		}
		if (pending === 0) text = T["line.done"];
		else {
			if (state === "ok") state = "wait";
			text = say("line.pending", { n: pending, age: age(oldest + (performance.now() - statusAt) / 1000) });
		}
		if (state === "stuck") text += " · " + T["line.stuck"];
		line.dataset.state = state;
		put(line, text);
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
		const unset = r.clock === "unset" && r.outcome === "stored";
		const head = r.outcome === "stored" ? word : T["head." + r.outcome] || r.outcome;
		const note = unset ? T["say.unset"] : T["say." + r.outcome] || "";
		// 王小明 · 上班: the kind stands in the head already when it was stored.
		const name = [r.name || r.employee_no || "", r.outcome === "duplicate" ? word : ""].filter(Boolean).join(" · ");
		const at = r.outcome === "misread" ? "" : clockText(wall(Date.parse(r.time)));
		panel.dataset.outcome = r.outcome;
		panel.classList.toggle("long", head.length > 4);
		panel.querySelector("use").setAttribute("href", "#sym-" + (unset ? "unset" : r.outcome));
		put(part("head"), head);
		put(part("name"), name);
		put(part("say"), note);
		put(part("time"), at);
		panel.hidden = false;
		put(byId("spoken"), [head, name, note, at].filter(Boolean).join(T["list.comma"]));
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
		notify(T["kind.failed"]);
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
			if (b.id === "pin-back") field.value = field.value.slice(0, -1);
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
			else if (answer.status === 429) trouble(say("pin.wait", { n: answer.headers.get("Retry-After") || "60" }));
			else trouble(T["pin.failed"]);
		} catch (_) {
			trouble(T["pin.failed"]);
		}
		busy = false;
	});

	setTime(root.dataset.now);
	drawScreen();
	tick();
	connect();
})();
