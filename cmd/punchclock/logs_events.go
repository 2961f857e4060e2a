package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// logEvent is a kind of line. Its name never changes, and with it its MESSAGE_ID; a
// text that ends in … stands for all that begin so.
type logEvent struct{ name, text string }

// logEvents are all kinds of line that the clock writes, whoever writes them. A test
// looks through the source for one that is missing, and for one that is no more.
var logEvents = []logEvent{
	{"104_index_changed", "104 counts records from another number than before"},
	{"104_index_learned", "learned from which number 104 counts records"},
	{"104_one_by_one", "104's answer does not say which records are meant, sending them one by one; said once"},
	{"104_smaller_calls", "104 finds the calls too large, sending smaller ones"},
	{"admin_card_blocked", "a card was blocked on the admin page"},
	{"admin_card_given", "a card was given on the admin page"},
	{"admin_card_unblocked", "a card is taken again, on the admin page"},
	{"admin_cert_missing", "no certificate for the admin page; tried again each minute"},
	{"admin_cert_new", "the page has a new certificate"},
	{"admin_cert_unreadable", "the page's certificate cannot be read; another one is made"},
	{"admin_count_not_kept", "the wrong PINs of the admin page are still counted"},
	{"admin_entered", "somebody came into the admin page"},
	{"admin_export_cut", "an export from the admin page was broken off"},
	{"admin_exported", "punches were exported on the admin page"},
	{"admin_locked", "the admin page is locked after too many wrong PINs; unlock it with: punchclock admin unlock"},
	{"admin_not_drawn", "the admin page could not be drawn"},
	{"admin_pin_changed", "the PIN of the admin page was changed on it"},
	{"admin_pin_not_checked", "a PIN for the admin page could not be looked at"},
	{"admin_pin_not_set", "the PIN of the admin page could not be set"},
	{"admin_pin_set", "the admin page has a PIN now"},
	{"admin_pin_unreadable", "the admin page is locked: its PIN cannot be read; set a new one with: punchclock admin pin"},
	{"admin_pin_wrong", "a wrong PIN for the admin page"},
	{"admin_portrait_deleted", "a portrait was deleted on the admin page"},
	{"admin_retry", "parked punches were put back on the admin page"},
	{"admin_section_missing", "a section of the admin page could not be shown"},
	{"admin_test_failed", "the self-test could not be made"},
	{"boot_time_kept", "the boot's time is written down: nothing is held any more"},
	{"boot_time_not_kept", "punches made before the clock was set are held until their boot's time can be written down"},
	{"audit_behind", "the audit chain lacks changes of the roster"},
	{"card_given", "a card was given"},
	{"card_no_badge", "a card came in a form that is no badge; check the reader's dialect"},
	{"card_not_given", "a card was not given"},
	{"card_not_taken_in", "the card's configuration was not taken in; the one before is in force"},
	{"cards_clash", "two people's cards cannot be told apart: their taps are stored as of unknown badges"},
	{"clock", "clock"},
	{"clock_not_told", "the kernel does not say whether the clock is right; punches are held: allow the call (in a systemd unit: no ProtectClock, and adjtimex in SystemCallFilter), or set trust = \"system\""},
	{"clock_state_not_kept", "clock: after a restart the clock may be unset until a time server answers"},
	{"clock_state_renewed", "clock: the state file is of no use, it is written anew"},
	{"clock_steps_late", "clock: steps are seen only every half minute"},
	{"collector_away", "the log's collector does not take lines; they wait on disk"},
	{"collector_back", "the log's collector takes lines again"},
	{"config_in_force", "the destination's configuration was changed and is in force"},
	{"config_needs_restart", "the configuration was changed; some of it takes effect with a restart only"},
	{"config_unusable", "the configuration was changed and cannot be used: the old one stays in force"},
	{"config_wrong", "the configuration was changed and is wrong: the old one stays in force"},
	{"destination_fails", "destination fails, punches are kept"},
	{"destination_unusable", "a destination cannot be delivered to; its punches are kept"},
	{"destination_works", "destination works again"},
	{"display_down", "the display does not work; the clock goes on without it, and tries again"},
	{"display_up", "display is on"},
	{"enrol_not_opened", "enrolment was not opened"},
	{"face_left_behind", "a display, a sounder or the taker of results did not finish in time and is left behind"},
	{"feishu_refused", "feishu refused a call"},
	{"feishu_smaller_calls", "feishu finds the calls too large, sending smaller ones"},
	{"key_no_kind", "a key gave no kind; check the reader's key map"},
	{"log_lines_lost", "lines of the log were thrown away, because it took no more"},
	{"mirror_not_written", "outbox: the second copy cannot be written; punches are stored all the same, it is tried again"},
	{"mirror_part_unreadable", "outbox: a part of the second copy could not be read"},
	{"mirror_unreadable", "outbox: the second copy cannot be read"},
	{"mirror_written", "outbox: the second copy is written again"},
	{"nightly_not_kept", "what was done tonight is not remembered over a restart"},
	{"nightly_reconcile_failed", "the nightly reconciliation could not read the log"},
	{"nightly_retry", "parked punches are offered again, as every night"},
	{"nightly_retry_failed", "parked punches could not be put back; tried again tomorrow"},
	{"nightly_unknown", "what was done last night is not known; it is done again"},
	{"no_lamp", "no lamp and no tone"},
	{"no_page", "no kiosk page yet; free the address or change kiosk.listen"},
	{"not_storing", "no punch can be stored now"},
	{"number_no_badge", "somebody's employee number holds characters that no badge can carry; correct it in the roster"},
	{"offers_not_kept", "what is being sent cannot be noted; after a kill or a power cut a double may go unmarked"},
	{"offers_unreadable", "outbox: what was under way cannot be read; a double may go unmarked"},
	{"outbox_mended", "outbox: …"},
	{"outbox_recovered", "outbox: recovered"},
	{"outbox_segment", "outbox: new segment"},
	{"outbox_slow_start", "outbox: the next start takes a little longer"},
	{"outbox_tidy", "outbox: between punches"},
	{"output_stuck", "indicator: an output does not switch"},
	{"page", "kiosk page"},
	{"page_correct_failed", "a punch could not be corrected"},
	{"page_not_drawn", "the kiosk page could not be drawn"},
	{"page_pin_failed", "a punch by PIN could not be made"},
	{"page_qr", "the QR code could not be drawn"},
	{"page_status_json", "the status could not be written as JSON"},
	{"page_status_not_drawn", "the status page could not be drawn"},
	{"page_status_unreadable", "the status could not be read for its page"},
	{"page_words_missing", "the page says less than was recorded"},
	{"pin_count_old", "the count of wrong PINs is the one of the last try"},
	{"pin_count_unreadable", "the count of wrong PINs cannot be read: no PIN is taken for a day; badges are. To take them sooner stop the clock and remove the file"},
	{"pin_not_checked", "a PIN could not be looked at"},
	{"pins_not_sealed", "PINs could not be sealed; tried again in a minute"},
	{"pins_sealed", "PINs are sealed"},
	{"portrait_fetched_again", "that a portrait was fetched could not be kept; it is fetched once more"},
	{"portrait_none", "a candidate has no portrait"},
	{"portraits_deleted", "portraits of people who are not here any more were deleted"},
	{"portraits_fail", "portraits cannot be fetched now; tried again"},
	{"portraits_not_deleted", "portraits could not be deleted; tried again every hour"},
	{"portraits_unwanted", "portraits are not wanted any more, and could not be deleted"},
	{"portraits_work", "portraits can be fetched again"},
	{"punch_not_stored", "a punch could not be stored; the person was told to tap again"},
	{"punch_parked_time", "punch parked, its time was never learned: a person must decide"},
	{"punch_parked_unknown", "punch parked, nobody has its badge yet"},
	{"punch_refused", "punch refused and parked"},
	{"reader_down", "reader is down; it comes back by itself when it is there"},
	{"reader_frame_lost", "a frame was thrown away; others for the same reason are only counted"},
	{"reader_needs_person", "reader needs a person; the clock goes on without it"},
	{"reader_pulses_lost", "pulses were lost before they could be read; what they belong to is thrown away"},
	{"reader_still_down", "reader is still down"},
	{"reader_up", "reader is up"},
	{"ready", "ready"},
	{"recent_unreadable", "a person's last punches could not be read for the screen"},
	{"reconcile_unfinished", "reconciliation could not be finished"},
	{"reconciled", "reconciled"},
	{"relink_failed", "unknown badges: look again at the next change of the roster"},
	{"reload_asked", "told to read the configuration again"},
	{"reload_retry", "parked punches are offered again"},
	{"reload_retry_failed", "parked punches: put back in the night"},
	{"resume_count", "104 counts more résumés than it lists; said once"},
	{"resume_fails", "the résumé service fails, no hour is skipped"},
	{"resume_read", "résumés read"},
	{"resume_works", "the résumé service works again"},
	{"retention_mirror", "outbox: retention let go of a month of the second copy"},
	{"retention_segment", "outbox: retention let go of an old file"},
	{"roster_damaged", "the roster was damaged and is empty now: import it again; until then every badge is stored as unknown"},
	{"roster_retry", "the roster has changed: parked punches are offered again"},
	{"roster_retry_failed", "parked punches: put back at the next change of the roster"},
	{"roster_source_back", "the roster's source can be read again"},
	{"roster_source_forgotten", "what was imported last is not known, it is imported once more"},
	{"roster_source_not_kept", "what was imported is not remembered over a restart"},
	{"roster_source_refused", "the roster's source was not taken over, the roster stays as it is"},
	{"roster_source_told", "roster source"},
	{"roster_updated", "the roster was brought up to date"},
	{"screen_away", "no screen; the clock goes on without it, and looks for one again"},
	{"screen_boxes", "some characters of names are boxes on the screen"},
	{"screen_coarse", "names are drawn with coarser letters"},
	{"screen_console", "the console may write into the screen's picture"},
	{"screen_correct_failed", "a correction asked for on the screen could not be made"},
	{"screen_kind_refused", "a kind chosen on the screen was not taken"},
	{"screen_lamp", "the display's lamp is not dimmed at night, its picture is"},
	{"screen_on", "screen is on"},
	{"screen_pin_failed", "a number and PIN typed on the screen could not be looked at"},
	{"secret_changed", "a secret's file has changed: trying again"},
	{"server_clock_agrees", "the far side's clock and this one agree again"},
	{"server_clock_differs", "the far side's clock and this one differ: check the time server, and the battery clock if there is one"},
	{"starting", "starting"},
	{"stopping", "stopping"},
	{"storing_again", "punches can be stored again"},
	{"systemd_not_told", "systemd was not told that we are ready"},
	{"tail_unreadable", "the last punches could not be read; kinds start afresh"},
	{"touch_gone", "touch screen is gone; it comes back by itself when it is there"},
	{"touch_on", "touch screen is on"},
	{"touch_unusable", "a touch screen cannot be used"},
	{"update", "update"},
	{"update_refused", "update refused"},
	{"update_stuck", "going back did not work, it is tried again every minute"},
	{"update_taken_back", "the update is taken back"},
	{"update_unwell", "the version on trial is not well"},
	{"watchdog_interval", "the watchdog's interval makes no sense"},
}

func logEventsCommand(t *tool) *cobra.Command {
	return t.reporting(&cobra.Command{
		Use: "events", Short: "List the kinds of line that the clock writes, with their MESSAGE_ID", Args: cobra.NoArgs,
		Long: "List the kinds of line that the clock writes. In the journal each has PUNCHCLOCK_EVENT and MESSAGE_ID,\n" +
			"which stay when the wording changes, PUNCHCLOCK_DEVICE, and a field for each attribute: dest=104 in the\n" +
			"text is PUNCHCLOCK_DEST=104. For example: journalctl PUNCHCLOCK_EVENT=punch_refused",
		RunE: func(*cobra.Command, []string) error {
			if t.json {
				type row struct {
					Event     string `json:"event"`
					MessageID string `json:"message_id"`
					Text      string `json:"text"`
				}
				rows := []row{}
				for _, e := range logEvents {
					rows = append(rows, row{e.name, messageID(e.name), e.text})
				}
				return t.printJSON(rows)
			}
			w := tabwriter.NewWriter(t.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintf(w, "EVENT\tMESSAGE_ID\tTEXT\n")
			for _, e := range logEvents {
				fmt.Fprintf(w, "%s\t%s\t%s\n", e.name, messageID(e.name), e.text)
			}
			return w.Flush()
		},
	})
}
