// The kiosk page. It shows what the daemon says and decides nothing: the kind of
// the next tap, the outcome of a tap and the time of day all come from there.
"use strict";
(() => {
	const byId = (id) => document.getElementById(id);
	const all = (css, from) => [...(from || document).querySelectorAll(css)];
	const root = document.documentElement;
	const T = JSON.parse(byId("words").textContent);
	// What is said to one person, in the other languages.
	const people = JSON.parse(byId("people").textContent);
	const speak = (lang) => people[lang] || T;
	// Sentences come with the verbs of Go's fmt: %d, %s, or %[2]s for the second.
	function fill(sentence, ...values) {
		let next = 0;
		return (sentence || "").replace(/%(?:\[(\d+)\])?[ds]/g, (_, n) => values[n ? n - 1 : next++]);
	}
	const say = (key, ...values) => fill(T[key], ...values);

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
	const hours = (d) => two(d.getUTCHours()) + ":" + two(d.getUTCMinutes());
	const seconds = (d) => ":" + two(d.getUTCSeconds());
	const clockText = (d) => hours(d) + seconds(d);
	// Today's date and tomorrow's, in words, and the day of the month they are from.
	let dates = null, datesFrom = 0;

	function put(el, text) {
		if (el.textContent !== text) el.textContent = text;
	}

	let coded = -1; // minute whose QR code is on the page
	function tick() {
		const d = wall(now());
		put(byId("hours"), hours(d));
		put(byId("seconds"), seconds(d));
		if (dates) put(byId("date"), dates[d.getUTCDate() === datesFrom ? 0 : 1]);
		drawWhy();
		drawLine();
		drawLight();
		if (online && coded !== d.getUTCMinutes() && light === "on") {
			coded = d.getUTCMinutes();
			byId("qr").src = "/qr.svg?" + coded;
		}
		// The line is dead when not even a pulse came: the browser may not notice.
		if (source && performance.now() - heard > 50000) connect();
		setTimeout(tick, 1000 - d.getUTCMilliseconds() + 5);
	}

	// ---- Light ----------------------------------------------------------------
	// At night, and only then, a page that nobody uses is dimmed after a minute and
	// dark after ten. The touch that wakes it does nothing else; a tap needs no touch.
	let night = false, used = performance.now(), light = "on";
	function drawLight() {
		const idle = performance.now() - used;
		light = !night || idle < 60000 ? "on" : idle < 600000 ? "dim" : "off";
		if (root.dataset.light !== light) root.dataset.light = light;
	}
	function wake() {
		used = performance.now();
		if (light !== "on") drawLight();
	}
	byId("shade").addEventListener("pointerdown", wake);
	addEventListener("pointerdown", wake, { passive: true });
	addEventListener("keydown", wake);

	// ---- Idle -----------------------------------------------------------------
	let screen = JSON.parse(byId("first").textContent);
	let online = false, asked = false, ready = true;
	let passing = "", passingUntil = 0;
	const buttons = all("#kinds button");

	function drawScreen() {
		for (const b of buttons) b.setAttribute("aria-pressed", String(b.dataset.kind === screen.kind));
		put(byId("doubt"), screen.clock === "synced" ? "" : "⚠ " + (T["clock." + screen.clock] || screen.clock));
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
		drawState();
	}
	// The largest unit of which there are two, as the catalog counts.
	function age(seconds, W = T) {
		if (seconds >= 172800) return fill(W["for.days"], Math.floor(seconds / 86400));
		if (seconds >= 7200) return fill(W["for.hours"], Math.floor(seconds / 3600));
		if (seconds >= 120) return fill(W["for.minutes"], Math.floor(seconds / 60));
		return fill(W["for.seconds"], Math.floor(seconds));
	}
	// How long to wait, rounded up: whoever waits that long has waited long enough.
	function until(seconds, W) {
		const unit = seconds > 7200 ? 3600 : seconds > 120 ? 60 : 1;
		return age(Math.ceil(seconds / unit) * unit, W);
	}
	function waiting(pending, oldest) {
		if (!pending) return T["idle.sent"];
		const since = age(oldest + (performance.now() - statusAt) / 1000);
		return say(pending === 1 ? "idle.pending.one" : "idle.pending.many", pending, since);
	}
	const attention = (parked) => say(parked === 1 ? "idle.parked.one" : "idle.parked.many", parked);

	function drawLine() {
		const line = byId("line");
		if (!status || !status.destinations) return put(line, "");
		// Destinations take the same punches in the same order: the one furthest
		// behind tells how many have not arrived everywhere, and so with those that a
		// person must look at.
		let pending = 0, oldest = 0, parked = 0, stuck = false, away = 0;
		const unwell = [];
		for (const d of status.destinations) {
			pending = Math.max(pending, d.pending || 0);
			oldest = Math.max(oldest, d.oldest_unsent_seconds || 0);
			parked = Math.max(parked, d.parked || 0);
			if (d.state === "retrying") away++;
			else if (d.state !== "ok") stuck = true;
			if (d.state !== "ok") unwell.push(d.name + " " + (T["dest." + d.state] || d.state));
		}
		const offline = away > 0 && away === status.destinations.length;
		const box = status.outbox || {};
		const parts = [];
		// What a person must look at comes first: the end may be cut off.
		if (box.incident) parts.push(T["outbox.mended"]);
		if (box.low_space) parts.push(T["space.low"]);
		if (parked) parts.push(attention(parked));
		stuck = stuck || parts.length > 0;
		const how = offline ? T.offline : unwell.join(" · ") || T.online;
		if (status.destinations.length) parts.unshift(how, waiting(pending, oldest));
		line.dataset.state = stuck ? "stuck" : offline || pending ? "wait" : "done";
		const text = parts.join(" · ");
		if (line.textContent === text) return;
		put(line, text);
		fitLine();
	}
	// A line that is too long for its box is smaller, in the same box.
	function fitLine() {
		const line = byId("line");
		line.classList.remove("full");
		if (line.scrollWidth > line.clientWidth || line.scrollHeight > line.clientHeight) line.classList.add("full");
	}
	addEventListener("resize", fitLine);

	// ---- Result ---------------------------------------------------------------
	const panel = byId("result"), own = byId("own");
	const part = (name) => panel.querySelector(".top ." + name);
	let shown = "", showing = null, hideTimer = 0;
	const keyOf = (r) => r.outcome + " " + (r.punch_id || r.time);

	function hide() {
		clearTimeout(hideTimer);
		panel.hidden = true;
		showing = null;
		part("face").removeAttribute("src");
		put(byId("spoken"), "");
	}
	function hideAfter(ms) {
		clearTimeout(hideTimer);
		hideTimer = setTimeout(hide, ms);
	}

	function show(r, sound) {
		const key = keyOf(r);
		if (key === shown) return;
		shown = key;
		showing = r;
		used = performance.now();
		drawLight();
		closeDialogs();
		const lang = r.language && people[r.language] ? r.language : root.lang, W = speak(lang);
		const word = W["kind." + r.kind] || "";
		const stored = r.outcome === "stored", unset = stored && r.clock === "unset";
		const sentence = r.reason && W["outcome." + r.outcome + "." + r.reason] ||
			stored && r.supersedes && W["outcome.corrected"] ||
			W["outcome." + r.outcome + (unset ? ".unset" : "")] || r.outcome;
		const mine = r.outcome === "duplicate" && !!r.employee_no;
		const head = stored ? word : sentence;
		const name = r.name || r.employee_no || "";
		const note = !stored ? "" : unset || r.supersedes ? sentence : sentence + " · " + (W["greet." + r.kind] || "");
		// Of a stored punch the kind is the head; elsewhere it stands with the time,
		// if anything was kept at all.
		const at = r.outcome === "misread" || r.outcome === "enrolment" ? "" :
			(stored || r.outcome === "not_stored" ? "" : word + " ") + clockText(wall(Date.parse(r.time)));
		// A new answer is a new thing, not the old one moved.
		const top = panel.querySelector(".top");
		part("face").removeAttribute("src");
		top.replaceWith(top.cloneNode(true));
		// A portrait comes when it comes; one that does not leaves the symbol as it is.
		panel.classList.toggle("faced", !!r.portrait);
		if (r.portrait) {
			part("face").onerror = () => { if (showing === r) panel.classList.remove("faced"); };
			part("face").src = r.portrait;
		}
		panel.lang = lang;
		panel.dataset.outcome = r.outcome;
		panel.classList.toggle("unset", unset);
		panel.classList.toggle("long", !stored);
		panel.classList.toggle("wide", name.length > 14);
		panel.classList.toggle("mine", mine);
		part("symbol").firstElementChild.setAttribute("href",
			"#sym-" + (unset ? "unset" : r.supersedes && stored ? "corrected" : r.outcome));
		// One clause a line: a person has a second to read it.
		part("head").replaceChildren(...(mine ? [head] : head.match(/[^，；;.]+[，；;.]?\s*/g) || [head]).map((clause) => {
			const line = document.createElement("span");
			line.textContent = clause;
			return line;
		}));
		put(part("name"), name);
		put(part("say"), note);
		put(part("time"), at);
		drawOwn();
		panel.hidden = false;
		put(byId("spoken"), [head, name, note, at].filter(Boolean).join(lang.startsWith("zh") ? "，" : ", "));
		if (sound) beep(r.outcome === "stored" ? r.kind : r.outcome === "enrolment" && r.reason || r.outcome, lang);
		hideAfter(2500);
		if (mine) keepOwn();
	}

	// ---- A person's own punches ---------------------------------------------------
	// They belong to the answer on the screen, or to nobody.
	let had = false;
	const ownOnes = () => showing && panel.classList.contains("mine") && screen.mine &&
		screen.mine.employee_no === showing.employee_no ? screen.mine : null;

	// keepOwn leaves the panel open for as long as the daemon shows the punches.
	function keepOwn() {
		const m = ownOnes();
		if (m) {
			had = true;
			drawOwn();
			hideAfter(Math.max(0, Math.min(60000, Date.parse(m.until) - now())) + 500);
		} else if (had) {
			had = false;
			if (showing && panel.classList.contains("mine")) hide();
		}
	}

	const marks = { delivered: "✓", pending: "…", parked: "!", skipped: "–" };
	function drawOwn() {
		own.hidden = !panel.classList.contains("mine");
		if (own.hidden) return;
		const m = ownOnes(), W = speak(panel.lang), list = byId("own-list");
		put(byId("own-title"), W["mine.title"]);
		put(byId("own-close").firstElementChild, W.close);
		const today = wall(now()).toISOString().slice(0, 10);
		const rows = (m && m.punches || []).map((p) => {
			const at = wall(Date.parse(p.time)), day = at.toISOString().slice(0, 10);
			const by = {};
			for (const x of p.places) (by[x.state] = by[x.state] || []).push(x.name);
			return [
				(day === today ? W["mine.today"] : day.slice(5).replace("-", "/")) + " " + clockText(at),
				W["kind." + p.kind] || p.kind, p.superseded ? "what old" : "what",
				p.superseded ? W["mine.superseded"] : p.outcome === "duplicate" ? W["outcome.duplicate"] :
					Object.keys(marks).filter((s) => by[s]).map((s) => marks[s] + " " + by[s].join(", ") + " " + W["delivery." + s]).join(" · "),
			];
		});
		if (!m || !m.listed) rows.splice(0, rows.length, ["", W["mine.wait"], "what", ""]);
		const drawn = JSON.stringify(rows);
		if (list.dataset.drawn !== drawn) {
			list.dataset.drawn = drawn;
			list.replaceChildren(...rows.map(([when, what, kind, where]) => {
				const li = document.createElement("li");
				for (const [name, text] of [["when", when], [kind, what], ["where", where]]) {
					const span = document.createElement("span");
					span.className = name;
					span.textContent = text;
					li.append(span);
				}
				return li;
			}));
		}
		const fix = m && m.fix && Date.parse(m.fix_until) > now();
		put(byId("own-ask"), fix ? W["fix.ask"] : "");
		for (const b of all("#own-kinds button")) {
			put(b.lastElementChild, W["kind." + b.dataset.kind]);
			b.style.visibility = fix ? "" : "hidden";
			b.setAttribute("aria-disabled", String(!fix || b.dataset.kind === m.fix_kind));
		}
	}

	let fixing = false;
	for (const b of all("#own-kinds button")) b.addEventListener("click", async () => {
		const m = ownOnes();
		if (!m || fixing || b.getAttribute("aria-disabled") === "true") return;
		fixing = true;
		const W = speak(panel.lang);
		try {
			const answer = await post("/api/correct", { punch_id: m.fix, kind: b.dataset.kind });
			const body = await answer.json();
			if (body.outcome) {
				if (!online || !live) show(body, true); // else the stream brings it
			} else put(byId("own-ask"), W["fix.late"]);
		} catch (_) {
			put(byId("own-ask"), T["page.lost"]);
		}
		fixing = false;
	});
	byId("own-close").addEventListener("click", hide);
	// Whoever touches an answer has read it.
	panel.addEventListener("click", () => {
		if (!panel.classList.contains("mine")) hide();
	});

	// ---- Sound ----------------------------------------------------------------
	// Rhythm tells the outcomes apart, not pitch alone. [hertz, start, length] in ms.
	const patterns = {
		in: [[880, 0, 90], [1175, 120, 160]],
		out: [[1175, 0, 160], [880, 190, 90]],
		"go-out": [[988, 0, 60], [988, 100, 60], [1319, 200, 180]],
		return: [[1319, 0, 180], [988, 220, 60], [988, 320, 60]],
		duplicate: [[660, 0, 60], [660, 110, 60]],
		unknown_badge: [[587, 0, 220], [587, 320, 220]],
		blocked_badge: [[587, 0, 220], [494, 320, 220], [415, 640, 300]],
		misread: [[440, 0, 420]],
		enrolled: [[880, 0, 70], [880, 150, 70], [1319, 300, 280]],
		"enrol-pin": [[880, 0, 70]],
		"enrol-card": [[880, 0, 70]],
		not_stored: [[294, 0, 110], [294, 160, 110], [294, 320, 110], [294, 480, 110], [220, 640, 600]],
	};
	let audio = null, volume = 0.5;
	try {
		audio = new (window.AudioContext || window.webkitAudioContext)();
	} catch (_) { /* no sound device: the screen says it all */ }
	function unlock() {
		if (audio && audio.state === "suspended") audio.resume().catch(() => {});
	}
	addEventListener("pointerdown", unlock, { passive: true });
	addEventListener("keydown", unlock);
	// What the site has recorded, by language and word, is said after the tone.
	const voices = JSON.parse(byId("voices").textContent), decoded = new Map();
	let speaking = null, spokenTo = 0;
	async function speakWord(url, after) {
		const turn = ++spokenTo, from = audio.currentTime + after;
		try {
			if (speaking) speaking.stop();
			speaking = null;
			if (!url) return;
			if (!decoded.has(url)) {
				if (decoded.size >= 16) decoded.delete(decoded.keys().next().value);
				decoded.set(url, await audio.decodeAudioData(await (await fetch(url)).arrayBuffer()));
			}
			if (turn !== spokenTo) return; // the next person has tapped
			const word = audio.createBufferSource(), loud = audio.createGain();
			word.buffer = decoded.get(url);
			loud.gain.setValueAtTime(Math.min(1, 2 * volume), 0);
			word.connect(loud).connect(audio.destination);
			word.onended = () => loud.disconnect();
			word.start(Math.max(from, audio.currentTime));
			speaking = word;
		} catch (_) { /* a recording that cannot be played is not said */ }
	}
	function beep(name, lang) {
		try {
			if (!audio || audio.state !== "running" || !volume) return;
			const tones = patterns[name] || [];
			const last = tones[tones.length - 1];
			speakWord((voices[lang] || {})[name], last ? (last[1] + last[2] + 80) / 1000 : 0);
			for (const [hertz, start, length] of tones) {
				const t = audio.currentTime + start / 1000, end = t + length / 1000;
				const tone = audio.createOscillator(), loud = audio.createGain();
				tone.type = "triangle";
				tone.frequency.value = hertz;
				loud.gain.setValueAtTime(0, t);
				loud.gain.linearRampToValueAtTime(volume, t + 0.008);
				loud.gain.setValueAtTime(volume, end - 0.02);
				loud.gain.linearRampToValueAtTime(0, end);
				tone.connect(loud).connect(audio.destination);
				tone.onended = () => loud.disconnect();
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
			const before = screen;
			screen = s;
			drawScreen();
			if (!live) {
				live = true;
				const fresh = missed && Math.abs(now() - Date.parse(missed.time)) < 2500;
				if (s.result || fresh) show(s.result || missed, Boolean(fresh));
			} else if (showing && !s.result && s.why === "chosen" && s.until !== before.until) {
				hide(); // the next person has pressed a key
			}
			keepOwn();
		});
		on("status", setStatus);
		on("pulse", (p) => {
			if (p.page !== root.dataset.version) return location.reload();
			setTime(p.now);
			dates = p.dates;
			datesFrom = wall(base.utc).getUTCDate();
			ready = p.ready;
			night = p.night;
			volume = p.volume / 100;
			drawLight();
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

	// ---- Keys and gestures: four kinds, and no way out ------------------------------
	addEventListener("keydown", (e) => {
		const kind = /^(?:F([1-4])|([1-4]))$/.exec(e.key), alone = !(e.ctrlKey || e.altKey || e.metaKey);
		if (alone && kind && !(kind[2] && pin.open)) {
			e.preventDefault();
			if (e.repeat) return;
			closeDialogs();
			if (showing) hide();
			return choose(buttons[(kind[1] || kind[2]) - 1].dataset.kind);
		}
		if (alone && e.key === "Escape" && showing) return hide();
		if (!alone || /^(F\d+|Browser.*|GoBack|GoHome|Launch.*)$/.test(e.key)) e.preventDefault();
	}, { capture: true });
	for (const name of ["contextmenu", "dragstart", "dragover", "drop", "gesturestart"]) {
		addEventListener(name, (e) => e.preventDefault());
	}
	addEventListener("wheel", (e) => {
		if (e.ctrlKey) e.preventDefault();
	}, { passive: false });

	// ---- Number and PIN -----------------------------------------------------------
	const pin = byId("pin"), number = byId("pin-number"), secret = byId("pin-pin");
	const pad = byId("pin-pad"), tongues = byId("pin-languages"), digits = all(".digit");
	const pages = ["123456789", "ABCDEFGHI", "JKLMNOPQR", "STUVWXYZ-"];
	let field = number, pinTimer = 0, busy = false, page = 0, PW = T;

	function turnTo(n) {
		page = n % pages.length;
		digits.forEach((b, i) => put(b, pages[page][i]));
		put(byId("pin-letters"), pages[(page + 1) % pages.length].slice(0, 3));
	}
	function speakPIN(lang) {
		PW = speak(lang);
		pin.lang = lang;
		for (const e of all("[data-t]", pin)) put(e, PW[e.dataset.t]);
		for (const b of tongues.children) b.setAttribute("aria-pressed", String(b.lang === lang));
		put(byId("pin-error"), "");
	}
	function showTongues(yes) {
		tongues.hidden = !yes;
		pad.hidden = yes;
		byId("pin-language").setAttribute("aria-expanded", String(yes));
	}
	for (const lang of [root.lang, ...Object.keys(people)]) {
		const b = document.createElement("button");
		b.type = "button";
		b.lang = lang;
		b.textContent = speak(lang).language;
		b.addEventListener("click", () => {
			speakPIN(lang);
			showTongues(false);
			field.focus();
		});
		tongues.append(b);
	}
	byId("pin-language").addEventListener("click", () => showTongues(tongues.hidden));
	byId("pin-letters").addEventListener("pointerdown", (e) => e.preventDefault());
	byId("pin-letters").addEventListener("click", () => {
		showTongues(false);
		turnTo(page + 1);
	});

	function closeDialogs() {
		if (pin.open) pin.close();
		if (sheet.open) sheet.close();
	}
	function keepPIN() {
		clearTimeout(pinTimer);
		pinTimer = setTimeout(closeDialogs, 30000);
	}
	pin.addEventListener("close", () => {
		clearTimeout(pinTimer);
		number.value = secret.value = "";
		speakPIN(root.lang);
		showTongues(false);
		turnTo(0);
	});
	byId("pin-open").addEventListener("click", () => {
		pin.showModal();
		number.focus();
		keepPIN();
	});
	byId("pin-cancel").addEventListener("click", closeDialogs);
	for (const f of [number, secret]) f.addEventListener("focus", () => { field = f; });
	pin.addEventListener("pointerdown", keepPIN);
	pin.addEventListener("keydown", keepPIN);
	for (const b of all("button[type=button]", pad)) {
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
		if (!secret.value) {
			turnTo(0);
			return secret.focus();
		}
		if (busy) return;
		busy = true;
		put(byId("pin-error"), "");
		try {
			const answer = await post("/api/pin", { employee_no: number.value, pin: secret.value });
			const body = await answer.json();
			if (body.outcome) {
				closeDialogs();
				// The stream brings it, in its order among the others.
				if (!online || !live) show(body, true);
			} else if (answer.status === 403) trouble(PW["pin.wrong"]);
			else if (answer.status === 429) trouble(fill(PW["pin.wait"], until(answer.headers.get("Retry-After") || 60, PW)));
			else trouble(PW["pin.failed"]);
		} catch (_) {
			trouble(T["page.lost"]);
		}
		busy = false;
	});

	// ---- The state, for a technician ------------------------------------------------
	const sheet = byId("state");
	let sheetTimer = 0;
	function drawState() {
		if (!sheet.open || !status) return;
		const rows = [];
		const box = status.outbox || {};
		rows.push([screen.clock === "synced" ? "done" : "wait", T["status.clock"], T["clock." + screen.clock] || "", ""]);
		rows.push([!ready || box.low_space || box.incident ? "stuck" : "done", T["status.storage"],
			!ready ? T["not.ready"] : box.incident ? T["outbox.mended"] : box.low_space ? T["space.low"] : T["status.ready"], ""]);
		for (const d of status.destinations || []) {
			const fine = d.state === "ok" && !d.parked;
			rows.push([fine ? "done" : d.state === "retrying" && !d.parked ? "wait" : "stuck", d.name, T["dest." + d.state] || d.state,
				[waiting(d.pending || 0, d.oldest_unsent_seconds || 0), d.parked ? attention(d.parked) : ""].filter(Boolean).join(" · ")]);
		}
		for (const r of status.readers || []) rows.push([r.state === "ok" ? "done" : "stuck", r.name, T["reader.state." + r.state] || r.state, ""]);
		byId("state-list").replaceChildren(...rows.map(([state, name, word, note]) => {
			const li = document.createElement("li"), b = document.createElement("b"), more = document.createElement("span");
			li.dataset.state = state;
			b.textContent = name;
			more.textContent = note;
			li.append(b, " " + word, note ? more : "");
			return li;
		}));
	}
	byId("state-open").addEventListener("click", () => {
		byId("qr-large").src = "/qr.svg?" + Math.floor(now() / 1000) % 86400;
		sheet.showModal();
		byId("state-close").focus();
		drawState();
		clearTimeout(sheetTimer);
		sheetTimer = setTimeout(closeDialogs, 60000);
	});
	byId("state-close").addEventListener("click", closeDialogs);

	speakPIN(root.lang);
	setTime(root.dataset.now);
	drawScreen();
	tick();
	connect();
})();
