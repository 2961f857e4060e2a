package main

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"punchclock/ui/screen"
)

// receipt says what became of a card. It is on the card, in the clock, and on the
// screen of a clock that has no configuration.
type receipt struct {
	Outcome     string    `json:"outcome"` // installed, refused, checked, failed, unfinished, nothing
	Device      string    `json:"device,omitempty"`
	Name        string    `json:"name,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Secrets     []string  `json:"secrets,omitempty"` // their names
	Network     string    `json:"network,omitempty"` // "" is as it was
	Aside       []string  `json:"aside,omitempty"`   // folders
	Problems    []mistake `json:"problems,omitempty"`
	Failed      string    `json:"failed,omitempty"`
	Left        string    `json:"left_sha256,omitempty"` // of the file that waits on the card to be corrected
}

const (
	installedOutcome  = "installed"
	refusedOutcome    = "refused"
	checkedOutcome    = "checked"    // in a dry run
	failedOutcome     = "failed"     // and nothing was changed
	unfinishedOutcome = "unfinished" // goes on at the next start
	nothingOutcome    = "nothing"    // no file has come yet
	lostOutcome       = "lost"       // there is nowhere to keep what comes
)

// mistake is one thing wrong with a card's file.
type mistake struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
}

func (r *receipt) problems() (ps problems) {
	for _, m := range r.Problems {
		ps = append(ps, problem{m.File, m.Line, m.Column, m.Message, m.Remedy})
	}
	return ps
}

// headline is one line in each language.
func (r *receipt) headline() string {
	zh, en := r.heads()
	return zh + "\n" + en + "\n"
}

func (r *receipt) heads() (zh, en string) {
	switch r.Outcome {
	case installedOutcome:
		return "設定完成：" + r.Device, "Done: this is now the clock " + r.Device
	case refusedOutcome:
		p := r.Problems[0]
		return fmt.Sprintf("設定檔有誤，沒有採用：第 %d 行第 %d 字", p.Line, p.Column),
			fmt.Sprintf("Refused, nothing was changed: line %d, column %d", p.Line, p.Column)
	case checkedOutcome:
		return "檢查通過：" + r.Device, "In order: " + r.Device
	case failedOutcome:
		return "打卡鐘無法收下設定，沒有任何變更", "The configuration could not be taken in; nothing was changed"
	case unfinishedOutcome:
		return "設定尚未完成，請重新開機", "Not finished: start the machine again to go on"
	}
	if r.Outcome == lostOutcome {
		return "打卡鐘自己的儲存區不見或損壞", "The clock's own part of the card is missing or damaged"
	}
	return "這台打卡鐘還沒有設定", "This clock has no configuration yet"
}

// words is the whole receipt: first in Chinese, then the same in English.
func (r *receipt) words() string {
	head, headEN := r.heads()
	zh, en := r.texts()
	return "punchclock 打卡鐘\n\n" + head + "\n" + zh + "\n----\n\n" + headEN + "\n" + en
}

// mostOnScreen is how many mistakes a screen tells; the receipt on the card has them all.
const mostOnScreen = 2

// sign is the receipt as a clock's screen shows it, where there is no clock yet.
func (r *receipt) sign() *screen.Sign {
	head, headEN := r.heads()
	zh, en := r.short()
	return &screen.Sign{Heads: []string{head, headEN}, Texts: []string{zh, en}, Calm: r.Outcome == installedOutcome || r.Outcome == nothingOutcome}
}

// short is texts with no more mistakes than a screen has room for.
func (r *receipt) short() (zh, en string) {
	few := *r
	few.Problems = r.Problems[:min(len(r.Problems), mostOnScreen)]
	zh, en = few.texts()
	if n := len(r.Problems) - mostOnScreen; n > 0 {
		zh += fmt.Sprintf("還有 %d 處，見卡上的 %s。\n", n, receiptName)
		en += fmt.Sprintf("%d more: see %s on the card.\n", n, receiptName)
	}
	return zh, en
}

// trouble reports whether a card's file was put there and is not in force.
func (r *receipt) trouble() bool {
	return r != nil && (r.Outcome == refusedOutcome || r.Outcome == failedOutcome || r.Outcome == unfinishedOutcome)
}

// headIn is the first line, in the one language or the other.
func (r *receipt) headIn(language string) string {
	zh, en := r.heads()
	if strings.HasPrefix(language, "zh") {
		return zh
	}
	return en
}

// noteIn is the first mistake and its remedy, else why nothing could be done.
func (r *receipt) noteIn(language string) string {
	switch {
	case len(r.Problems) == 0:
		return r.Failed
	case strings.HasPrefix(language, "zh"):
		return inChinese(r.Problems[0])
	}
	return r.Problems[0].Message + "; " + r.Problems[0].Remedy
}

// problem is the whole of it for status, in both languages.
func (r *receipt) problem() string {
	zh, en := r.short()
	return strings.TrimRight(r.headline()+zh+en, "\n")
}

// texts is what follows the first line, in each language.
func (r *receipt) texts() (zh, en string) {
	var a, b strings.Builder
	both := func(z, e string) {
		fmt.Fprintln(&a, z)
		fmt.Fprintln(&b, e)
	}
	names := strings.Join(r.Secrets, ", ")
	switch r.Outcome {
	case installedOutcome, checkedOutcome:
		both(fmt.Sprintf("  名稱：%s\n  設定指紋：%s", r.Name, r.Fingerprint), fmt.Sprintf("  name: %s\n  fingerprint of the settings: %s", r.Name, r.Fingerprint))
		if r.Network != "" {
			both("  網路："+r.Network, "  network: "+r.Network)
		} else {
			both("  網路：未更動", "  network: left as it is")
		}
		if names != "" {
			both("  密碼："+names, "  secrets: "+names)
		}
		for _, dir := range r.Aside {
			both("  舊代號的打卡紀錄另存於："+dir, "  punches of the old id were put aside in: "+dir)
		}
		if r.Outcome == installedOutcome {
			both("punchclock.toml 與密碼已移入打卡鐘，並從卡上覆寫後刪除。", "punchclock.toml and the secrets are in the clock now; here they were overwritten and removed.")
		}
	case refusedOutcome:
		for i, p := range r.Problems {
			both(fmt.Sprintf("%d. %s 第 %d 行第 %d 字：%s", i+1, p.File, p.Line, p.Column, inChinese(p)),
				fmt.Sprintf("%d. %s line %d, column %d: %s\n   What to do: %s", i+1, p.File, p.Line, p.Column, p.Message, p.Remedy))
		}
		both("打卡鐘的設定沒有改變。請改好這張卡上的 punchclock.toml，再放回打卡鐘開機。", "Nothing in the clock was changed. Correct punchclock.toml on this card, put the card back and start the clock.")
		both("為了安全，檔案裡的密碼已從卡上清除。", "For safety every secret was removed from the file on the card.")
		if names != "" {
			both("打卡鐘已留下（可以空白不填）："+names, "The clock keeps these, so they may stay empty: "+names)
		}
	case failedOutcome, unfinishedOutcome:
		both("  原因："+r.Failed, "  "+r.Failed)
	case lostOutcome:
		both("打卡無法保存，所以打卡鐘不啟動。請重新開機；若再出現，請換一張新寫好的卡。舊卡請留著：上面可能還有未送出的打卡。",
			"No punch could be kept, so the clock does not start. Start it again; if this comes back, use a newly written card. Keep this one: there may be punches on it that are not delivered.")
	default:
		both("請把 punchclock.toml 放到記憶卡上（電腦看得到的那一區），再把卡放回打卡鐘開機。", "Put a punchclock.toml on the card, where a computer shows its files, put the card back and start the clock.")
	}
	if r.Outcome == installedOutcome || r.Outcome == refusedOutcome {
		both("注意：記憶卡晶片可能仍留有覆寫前的舊資料。卡片遺失或報廢時，請更換密碼，並銷毀卡片。",
			"Note: a memory card's chip may still hold what was overwritten. If the card is lost or thrown away, change the secrets, and destroy the card.")
	}
	return a.String(), b.String()
}

// forNotepad adds what Windows' editors of any age need to show the text.
func forNotepad(s string) []byte {
	return []byte("\uFEFF" + strings.ReplaceAll(s, "\n", "\r\n"))
}

// outcome is the last receipt, or that there is nowhere to keep one.
func (p *provisioner) outcome() *receipt {
	r := p.lastReceipt()
	if r.Outcome == nothingOutcome && !p.lasts(p.state) {
		r.Outcome = lostOutcome
	}
	return r
}

// page shows the last receipt, and looks for a new one every few seconds.
func (p *provisioner) page() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" || r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.NotFound(w, r)
			return
		}
		rec := p.outcome()
		zh, en := rec.heads()
		color := "#b3261e"
		if rec.Outcome == installedOutcome || rec.Outcome == nothingOutcome {
			color = "#1b4f8f"
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		io.WriteString(w, `<!doctype html><html lang="zh-TW"><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>punchclock</title>`+
			`<style>body{margin:0;font:1.4vmax sans-serif;color:#111}h1{margin:0;padding:1em;font-size:3vmax;color:#fff;background:`+color+`}pre{white-space:pre-wrap;font:inherit;margin:1.5em}</style>`+
			`<h1>`+html.EscapeString(zh)+`<br>`+html.EscapeString(en)+`</h1><pre>`+html.EscapeString(rec.words())+`</pre>`)
	})
}

// inChinese is a mistake and its remedy in Chinese; what there is no sentence for
// stays in English.
func inChinese(p mistake) string {
	return chinese(mistakesInChinese, p.Message) + "；" + chinese(remediesInChinese, p.Remedy)
}

func chinese(table func() []sentence, words string) string {
	for _, s := range table() {
		if m := s.english.FindStringSubmatch(words); m != nil {
			out := s.chinese
			for i, part := range m[1:] {
				out = strings.ReplaceAll(out, fmt.Sprintf("{%d}", i+1), part)
			}
			return out
		}
	}
	return words
}

// sentence is a form of words that a mistake is told in, and the same in Chinese with
// the varying parts as {1}, {2}.
type sentence struct {
	english *regexp.Regexp
	chinese string
}

// sentences makes a table of pairs, when it is first asked for.
func sentences(pairs ...string) func() []sentence {
	return sync.OnceValue(func() (all []sentence) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, sentence{regexp.MustCompile("^(?:" + pairs[i] + ")$"), pairs[i+1]})
		}
		return all
	})
}

var mistakesInChinese = sentences(
	`unknown key "(.*)" in (.*)`, `{2} 裡沒有「{1}」這個鍵`,
	`unknown key "(.*)"`, `沒有「{1}」這個鍵`,
	`unknown section (.*)`, `沒有 {1} 這一段`,
	`this is not TOML: (.*)`, `格式不對（{1}）`,
	`the text is not UTF-8`, `文字不是 UTF-8`,
	`the file holds zeros instead of text`, `檔案內容是空的零`,
	`the file is larger than 1 MiB`, `檔案太大，不是設定檔`,
	`the card holds both (.*) and (.*)`, `卡上同時有 {1} 和 {2}`,
	`schema is missing`, `缺少 schema`,
	`device.id is missing`, `缺少裝置代號 device.id`,
	`(\S+) is (?:a text|a whole number|a number with a point|true or false|a list|a table|a date or time without quotes) where (?:.*) belongs`, `{1} 的值型別不對`,
	`(\S+) "(.*)" is not known`, `{1} 不能是「{2}」`,
	`(\S+) = (.*) is out of range`, `{1} = {2} 超出範圍`,
	`device id "(.*)" is not a name that can be part of a punch id`, `裝置代號「{1}」不能使用`,
	`timezone "(.*)" is not an IANA zone`, `時區「{1}」不存在`,
	`(\S+) does not belong into this file`, `{1}：密碼不能寫在這裡`,
	`(network\.wifi\.\S+) does not belong here`, `{1}：密碼不能寫在這裡`,
	`the secret (\S+) is not on the card, and the clock does not have it`, `缺少密碼 {1}：卡上沒有，打卡鐘裡也沒有`,
	`the secret (\S+) stands here, too`, `密碼 {1} 也出現在這一行`,
	`the secret (\S+) is here and another one in the file (.*)`, `密碼 {1} 與檔案 {2} 裡的不同`,
	`secret: (.*) is empty`, `密碼檔 {1} 是空的`,
	`secret: (.*) holds more than one line, or characters that no secret has`, `密碼檔 {1} 不只一行，或有不可用的字元`,
	`the secret wifi-psk is no Wi-Fi passphrase`, `Wi-Fi 密碼 wifi-psk 格式不對`,
	`no secret of the name "(.*)" is handed to the clock`, `沒有「{1}」這個密碼名稱`,
	`the file "(.*)" is not on the card, and the clock does not have it`, `缺少檔案 {1}：卡上沒有，打卡鐘裡也沒有`,
	`this clock was "(.*)" and holds (\d+) punches that are not delivered yet`, `這台打卡鐘原本是「{1}」，還有 {2} 筆打卡沒有送出`,
	`"(.*)" is not an address with the length of its network`, `「{1}」不是含遮罩長度的 IP 位址`,
	`"(.*)" is not an IP address`, `「{1}」不是 IP 位址`,
	`the secret admin-pin is too short or too easy to guess`, `管理 PIN（admin-pin）太短或太容易猜`,
	`the Wi-Fi network has no ssid`, `Wi-Fi 缺少 ssid`,
	`the Wi-Fi network's country is missing or no country code`, `Wi-Fi 缺少國碼 country`,
	`the file is UTF-16`, `檔案是 UTF-16`,
)

var remediesInChinese = sentences(
	`did you mean "(.*)"\?`, `是不是「{1}」？`,
	`write (.*) under \[secrets\], or put it into a file named (\S+) beside punchclock.toml`, `請在 [secrets] 下寫 {1}，或把密碼存成檔案 {2} 放在 punchclock.toml 旁邊`,
	`write it under \[secrets\] as (.*)`, `請在 [secrets] 下寫 {1}`,
	`write the secret under \[secrets\], and its name there into the key that ends in _file`, `請把密碼寫在 [secrets] 下，並在 _file 結尾的鍵填它的名稱`,
	`write id = (.*) and the old state_dir until they are; or, if they may stay unsent, write set_aside_punches = true under \[provision\]`, `請先用回 id = {1} 等全部送出；若可以不送，在 [provision] 下寫 set_aside_punches = true`,
	`remove this line.*|remove it from this line.*`, `請從這一行刪掉`,
	`one of: (.*)`, `可用的有：{1}`,
	`write one of: (.*)`, `可用的有：{1}`,
	`keep the right one, as punchclock.toml`, `請只留正確的那一個，名為 punchclock.toml`,
	`keep one of the two`, `請只留一個`,
	`the card was pulled out before it was written.*`, `卡片太早拔出：請重新複製檔案，並先「退出」再拔卡`,
	`save the file as UTF-8.*`, `請另存為 UTF-8（不是 Big5 或 GBK）`,
	`write key = "value".*`, `每行寫一個 key = "value"`,
	`use 1 to 32 small letters.*`, `請用 1 到 32 個小寫英文、數字或連字號，例如 tpe-1f-lobby`,
	`write a number from (\S+) to (\S+)`, `請填 {1} 到 {2} 的數字`,
	`write 6 characters or more, not one only.*`, `請寫 6 個以上的字元，不要用同一個字元或連號`,
	`write the 8 to 63 letters.*`, `請填 8 到 63 個英數字或符號`,
	`write (.*)`, `請寫 {1}`,
)
