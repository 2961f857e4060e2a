package text

import "fmt"

// The words of the page for technicians and HR. They are no Keys: that page is in the
// languages of the office, and each row has those in the order of the languages table.
// A test holds that every row is asked for, and that its three ask for the same
// arguments.

// office are the sentences, by name.
var office = map[string][3]string{
	"admin":     {"管理", "管理", "Administration"},
	"languages": {"語言", "语言", "Language"},
	"sections":  {"各部分", "各部分", "Sections"},
	"logout":    {"登出", "退出", "Log out"},
	"cancel":    {"取消", "取消", "Cancel"},
	"failed":    {"目前無法執行；請看打卡鐘的記錄檔。", "目前无法执行；请看打卡钟的日志。", "This could not be done now; see the clock's log."},

	"login":       {"請輸入管理 PIN", "请输入管理 PIN", "Enter the administrator's PIN"},
	"login.go":    {"登入", "登录", "Log in"},
	"login.wrong": {"PIN 不正確。", "PIN 不正确。", "That is not the PIN."},
	"login.wait":  {"錯誤太多次，請於 %s後再試。", "错误太多次，请于 %s后再试。", "Too many wrong PINs: try again in %s."},
	"login.locked": {"錯誤太多次，已鎖定。請技術人員在機器上執行：sudo punchclock admin unlock",
		"错误太多次，已锁定。请技术人员在机器上执行：sudo punchclock admin unlock",
		"Locked after too many wrong PINs. A technician unlocks it on the machine: sudo punchclock admin unlock"},
	"login.again": {"這一頁太舊了，請再輸入一次。", "这一页太旧了，请再输入一次。", "This page was too old: please enter it again."},

	"first":       {"設定管理 PIN", "设置管理 PIN", "Set the administrator's PIN"},
	"first.words": {"這台打卡鐘還沒有管理 PIN。至少 %d 個字元。", "这台打卡钟还没有管理 PIN。至少 %d 个字符。", "This clock has no administrator's PIN yet. At least %d characters."},
	"first.pin":   {"新 PIN", "新 PIN", "New PIN"},
	"first.again": {"再輸入一次", "再输入一次", "The same again"},
	"first.set":   {"設定", "设置", "Set it"},
	"first.elsewhere": {"尚未設定 PIN。只能在打卡鐘本機設定：sudo punchclock admin pin",
		"尚未设置 PIN。只能在打卡钟本机设置：sudo punchclock admin pin",
		"There is no PIN yet. It can only be set at the clock itself: sudo punchclock admin pin"},
	"first.late":   {"PIN 已經設定了。", "PIN 已经设置了。", "There is a PIN already."},
	"first.differ": {"兩次輸入不相同。", "两次输入不相同。", "The two are not the same."},
	"first.short":  {"太短了：至少 %d 個字元。", "太短了：至少 %d 个字符。", "Too short: at least %d characters."},
	"first.simple": {"太容易猜了：不要用同一個字元或連號，至少 %d 個字元。", "太容易猜了：不要用同一个字符或连号，至少 %d 个字符。",
		"Too easy to guess: not one character only, nor one after the other; at least %d characters."},

	"none":       {"沒有", "没有", "none"},
	"now":        {"現況", "现况", "Now"},
	"readers":    {"讀卡機", "读卡器", "Readers"},
	"reader":     {"讀卡機", "读卡器", "Reader"},
	"driver":     {"種類", "种类", "Kind"},
	"state":      {"狀態", "状态", "State"},
	"last.event": {"上次動作", "上次动作", "Last event"},
	"faults":     {"讀取錯誤", "读取错误", "Faults"},
}

// Office returns a sentence of the page for technicians and HR, with its arguments
// where it has verbs. A name that is not there comes back as it is.
func (c Catalog) Office(name string, args ...any) string {
	row, ok := office[name]
	switch {
	case !ok:
		return name
	case len(args) == 0:
		return row[c.office()]
	}
	return fmt.Sprintf(row[c.office()], args...)
}

// InOffice is the catalog that Office speaks: the same one, or zh-TW for a language
// that the office has not.
func (c Catalog) InOffice() Catalog { return Catalog{c.office()} }

// OfficeLanguages lists the tags of the languages that Office speaks.
func OfficeLanguages() []string { return Languages()[:len(columns["time"])] }
