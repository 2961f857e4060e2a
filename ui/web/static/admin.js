// The page for technicians and HR works without this. With it, what is alive stays
// fresh, what takes its time says so and can be ended, and an export shows how far it is.
"use strict";
(() => {
	const busy = document.getElementById("busy"), bar = busy.querySelector("progress");
	let ending = null, exporting = 0;

	const main = () => document.getElementById("main");
	const parse = async (answer) => new DOMParser().parseFromString(await answer.text(), "text/html");

	function wait(words, end) {
		busy.querySelector("p").textContent = words;
		bar.removeAttribute("value");
		busy.querySelector("button").hidden = !end;
		busy.hidden = false;
		ending = end;
	}
	function done() {
		busy.hidden = true;
		ending = null;
	}
	busy.querySelector("button").addEventListener("click", () => { const end = ending; done(); if (end) end(); });
	addEventListener("keydown", (e) => { if (e.key === "Escape" && !busy.hidden) busy.querySelector("button").click(); });

	// A form that takes its time is sent from here, and its answer put in place.
	async function send(form) {
		const cut = new AbortController();
		wait(form.dataset.busy, () => cut.abort());
		try {
			const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), signal: cut.signal });
			const page = answer.ok && answer.redirected && (await parse(answer)).getElementById("main");
			if (!page) return location.reload();
			main().replaceWith(page);
			history.replaceState(null, "", answer.url);
			arm();
			main().focus();
			scrollTo(0, 0);
		} catch (e) {
			if (e.name !== "AbortError") location.reload();
		} finally {
			done();
		}
	}

	// How far an export is. The browser does the loading, and can end it.
	async function follow() {
		const mine = ++exporting, path = location.pathname + "/progress";
		wait("…", null);
		for (let begun = false, n = 0; mine === exporting; n++) {
			await new Promise((go) => setTimeout(go, 400));
			let p;
			try {
				const answer = await fetch(path, { headers: { "X-Fresh": "1" } });
				if (!answer.ok) break;
				p = await answer.json();
			} catch { break; }
			busy.querySelector("p").textContent = p.words;
			if (p.of) { bar.max = p.of; bar.value = p.at; }
			begun = begun || p.running || p.at > 0;
			if (begun && !p.running || n > 25 && !begun) break;
		}
		if (mine === exporting) setTimeout(() => mine === exporting && done(), 2500);
	}

	addEventListener("submit", (e) => {
		const form = e.target;
		if (form.dataset.ask && !confirm(form.dataset.ask)) return e.preventDefault();
		if (form.dataset.busy) { e.preventDefault(); if (busy.hidden) send(form); }
		if ("progress" in form.dataset) follow();
	});

	// What is alive is asked for again; what somebody is at stays as it is.
	let timer = 0;
	function arm() {
		clearTimeout(timer);
		const every = Number(main().dataset.fresh);
		if (every) timer = setTimeout(fresh, every * 1000);
	}
	async function fresh() {
		if (!document.hidden && busy.hidden) {
			try {
				const answer = await fetch(location.href, { headers: { "X-Fresh": "1" } });
				if (answer.status === 401) return location.reload();
				if (answer.ok && busy.hidden) {
					const page = await parse(answer);
					for (const old of main().querySelectorAll("[data-live]")) {
						const now = page.getElementById(old.id);
						if (now && !old.contains(document.activeElement) && now.innerHTML !== old.innerHTML) old.replaceWith(now);
					}
				}
			} catch { /* the clock is away: it is asked again */ }
		}
		arm();
	}
	arm();
})();
