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

	"none":           {"沒有", "没有", "none"},
	"none.yet":       {"還沒有資料", "还没有数据", "nothing yet"},
	"yes":            {"是", "是", "yes"},
	"no":             {"否", "否", "no"},
	"more":           {"顯示 %d 筆，共 %d 筆", "显示 %d 笔，共 %d 笔", "%d of %d are shown"},
	"what":           {"項目", "项目", "What"},
	"state":          {"狀態", "状态", "State"},
	"detail":         {"細節", "细节", "Detail"},
	"who":            {"人員", "人员", "Person"},
	"name":           {"姓名", "姓名", "Name"},
	"remedy":         {"怎麼辦", "怎么办", "What to do"},
	"now":            {"現況", "现况", "Now"},
	"readers":        {"讀卡機", "读卡器", "Readers"},
	"reader":         {"讀卡機", "读卡器", "Reader"},
	"driver":         {"種類", "种类", "Kind"},
	"last.event":     {"上次動作", "上次动作", "Last event"},
	"last.tried":     {"上次嘗試", "上次尝试", "Last tried"},
	"faults":         {"讀取錯誤", "读取错误", "Faults"},
	"dests":          {"傳送目的地", "发送目的地", "Destinations"},
	"dest":           {"目的地", "目的地", "Destination"},
	"pending":        {"待送", "待送", "Pending"},
	"oldest":         {"最舊等待", "最旧等待", "Oldest waits"},
	"parked.n":       {"待人工處理", "待人工处理", "Parked"},
	"last.success":   {"上次成功", "上次成功", "Last success"},
	"last.error":     {"上次錯誤", "上次错误", "Last error"},
	"machine":        {"這台打卡鐘", "这台打卡钟", "This clock"},
	"mirror":         {"第二份備份", "第二份备份", "Second copy"},
	"roster":         {"名冊", "名册", "Roster"},
	"roster.old":     {"未更新，仍用上一份", "未更新，仍用上一份", "not taken over: the last good one is in force"},
	"config":         {"設定檔", "配置文件", "Configuration"},
	"config.wrong":   {"有誤，沿用舊的", "有误，沿用旧的", "wrong: the old one is in force"},
	"config.restart": {"需要重新啟動", "需要重新启动", "needs a restart"},
	"storage":        {"最後編號 %d，%.1f MB，剩餘 %.1f GB", "最后编号 %d，%.1f MB，剩余 %.1f GB", "last number %d, %.1f MB, %.1f GB free"},
	"skew":           {"與對方的時鐘相差太多", "与对方的时钟相差太多", "differs from a far side's clock"},
	"cert":           {"憑證", "证书", "Certificate"},
	"program":        {"程式", "程序", "Program"},

	"remedy.retrying":      {"不必處理：網路或對方恢復後會自動補送", "不必处理：网络或对方恢复后会自动补发", "nothing: it goes on by itself when the network or the far side is back"},
	"remedy.auth_failed":   {"帳號或密鑰被拒：更正密鑰檔，不必重新啟動", "账号或密钥被拒：更正密钥文件，不必重新启动", "account or secret refused: correct the secret's file, nothing needs a restart"},
	"remedy.misconfigured": {"設定不完整：照「上次錯誤」更正，不必重新啟動", "配置不完整：照“上次错误”更正，不必重新启动", "not set up: correct what the last error says, nothing needs a restart"},
	"remedy.parked":        {"到「待處理」逐筆處理", "到“待处理”逐笔处理", "look at what is parked"},

	"tap": {"刷卡測試", "刷卡测试", "Tap now"},
	"tap.words": {"按下按鈕，再刷一張卡：會顯示讀到的原始資料與解讀。已登錄的卡同時也是一次打卡；未登錄的不會。", "按下按钮，再刷一张卡：会显示读到的原始数据与解读。已登记的卡同时也是一次打卡；未登记的不会。",
		"Press the button, then tap a card: what was read is shown, raw and decoded. A card that the roster knows is a punch as well; one that it does not know is none."},
	"tap.go":    {"刷卡", "刷卡", "Tap now"},
	"tap.any":   {"任何一台", "任何一台", "any"},
	"tap.busy":  {"請在 %d 秒內刷卡…", "请在 %d 秒内刷卡…", "tap a card within %d seconds…"},
	"tap.other": {"有人正在讀卡，請稍候。", "有人正在读卡，请稍候。", "Somebody else is reading a card in: wait for that."},
	"tap.none":  {"沒有讀到卡片。", "没有读到卡片。", "No card came."},
	"tap.fault": {"%s 沒有讀到卡片：%s", "%s 没有读到卡片：%s", "%s read no card: %s"},
	"raw":       {"原始資料", "原始数据", "Raw"},
	"bits":      {"位元", "位", "Bits"},

	"fault.checksum": {"檢查碼不符", "校验码不符", "its check is wrong"},
	"fault.length":   {"長度不符", "长度不符", "not the length of a card"},
	"fault.format":   {"格式不符", "格式不符", "it holds what no card has"},
	"fault.timeout":  {"中途停止", "中途停止", "it stopped in the middle"},
	"fault.noise":    {"線路雜訊", "线路噪声", "noise on the line"},
	"fault.lost":     {"部分遺失", "部分丢失", "some of it was lost"},
	"fault.random":   {"手機或每次換號的卡", "手机或每次换号的卡", "a phone, or a card that changes its number"},
	"fault.two":      {"同時兩張卡", "同时两张卡", "two cards at once"},
	"fault.learned":  {"讀卡登錄", "读卡登记", "read in here"},
	"fault.pin":      {"PIN 不符", "PIN 不符", "wrong PIN"},
	"fault.tries":    {"PIN 錯誤太多", "PIN 错误太多", "too many wrong PINs"},

	"card":           {"卡片", "卡片", "Card"},
	"cards":          {"卡片", "卡片", "Cards"},
	"card.ways":      {"同一張卡的其他讀法", "同一张卡的其他读法", "How it may be read"},
	"card.way":       {"讀法", "读法", "Reading"},
	"card.same":      {"視為同一張卡", "视为同一张卡", "Taken for the same card"},
	"card.same.by":   {"是，依規則 %s", "是，依规则 %s", "yes, by the rule %s"},
	"card.same.with": {"要加上規則 %s 才是", "要加上规则 %s 才是", "only with the rule %s"},
	"card.of":        {"這是 %s 的卡片。", "这是 %s 的卡片。", "The card of %s."},
	"card.many":      {"這張卡可能屬於：%s。請只留一人，其他人換卡。", "这张卡可能属于：%s。请只留一人，其他人换卡。", "It could be the card of any of these: %s. Give all but one another card."},
	"card.left":      {"這張卡屬於已離職的 %s。", "这张卡属于已离职的 %s。", "The card of somebody who has left: %s."},
	"card.clash":     {"這張卡與 %s 的卡無法分辨，請換卡。", "这张卡与 %s 的卡无法分辨，请换卡。", "It cannot be told apart from a card of %s: use another one."},
	"card.rule":      {"沒有人登錄這張卡；加上規則 %[2]s 才會是 %[1]s 的卡。", "没有人登记这张卡；加上规则 %[2]s 才会是 %[1]s 的卡。", "Nobody has this card; with the rule %[2]s it would be the card of %[1]s."},
	"card.nobody":    {"名冊裡沒有人有這張卡。", "名册里没有人有这张卡。", "Nobody in the roster has this card."},
	"card.blocked":   {"這張卡已停用。", "这张卡已停用。", "This card is blocked."},
	"card.master":    {"這是管理卡，不能給人打卡。", "这是管理卡，不能给人打卡。", "This is a master card: it is nobody's."},
	"card.random":    {"08 開頭的號碼每次都不同（如手機）：再刷一次，若不同請換卡。", "08 开头的号码每次都不同（如手机）：再刷一次，若不同请换卡。", "A number that begins with 08 is made up for each tap, as phones do: tap again, and if it differs use a card."},
	"card.begun":     {"88 開頭的是較長號碼的前段，不同的卡可能相同：請把讀卡機設為送出七個位元組。", "88 开头的是较长号码的前段，不同的卡可能相同：请把读卡器设为发送七个字节。", "88 begins a longer number, which cards may share: set the reader to send all seven bytes."},

	"parked":       {"待處理", "待处理", "Parked"},
	"parked.words": {"對方拒收、需要有人處理的打卡。更正原因後再送；時間不變。", "对方拒收、需要有人处理的打卡。更正原因后再发；时间不变。", "Punches that a destination refused. Mend the reason, then send them again: with the time they were made at."},
	"parked.none":  {"沒有待處理的打卡。", "没有待处理的打卡。", "Nothing waits for a person."},
	"parked.again": {"已放回，等待傳送", "已放回，等待发送", "put back, about to be sent"},
	"retry":        {"再送", "再发", "Send again"},
	"retry.all":    {"全部再送：%s（%d 筆）", "全部再发：%s（%d 笔）", "Send all again: %s (%d)"},
	"retry.done":   {"已放回 %d 筆，即將再送。", "已放回 %d 笔，即将再发。", "Put back: %d. They are sent again."},

	"people":       {"人員", "人员", "People"},
	"people.count": {"名冊共 %d 人。", "名册共 %d 人。", "%d people are in the roster."},
	"people.none":  {"找不到。", "找不到。", "Nobody was found."},
	"search":       {"搜尋", "搜索", "Search"},
	"search.what":  {"編號、姓名或卡號", "编号、姓名或卡号", "Number, name or card"},
	"active":       {"在職", "在职", "active"},
	"left":         {"離職", "离职", "has left"},
	"learn":        {"讀入卡片", "读入卡片", "Read a card in"},
	"learn.words":  {"要給這個人一張卡：按下按鈕，在讀卡機刷卡，再確認。", "要给这个人一张卡：按下按钮，在读卡器刷卡，再确认。", "To give this person a card: press the button, tap the card at a reader, then confirm."},
	"give":         {"把這張卡登錄給 %s？", "把这张卡登记给 %s？", "Give this card to %s?"},
	"give.go":      {"登錄 %s", "登记 %s", "Give %s"},
	"give.done":    {"已登錄給 %s。", "已登记给 %s。", "It is the card of %s now."},
	"give.source":  {"名冊會自動從人資的檔案更新：那裡也請加上這張卡；這裡給的卡更新後仍然有效。", "名册会自动从人资的文件更新：那里也请加上这张卡；这里给的卡更新后仍然有效。", "The roster is kept up to date from HR's file: add the card there, too. It stays this person's after an update."},
	"give.linked":  {"之前用這張卡刷的 %d 筆會以原時間送出。", "之前用这张卡刷的 %d 笔会以原时间送出。", " %d punches made with it before are delivered with their own times."},

	"hand":           {"把 %s 登錄給誰？", "把 %s 登记给谁？", "Whose card is %s?"},
	"hand.go":        {"登錄", "登记", "Give it"},
	"hand.move":      {"若現在是別人的卡，改給這個人", "若现在是别人的卡，改给这个人", "Also if it is somebody else's now"},
	"seen":           {"最近刷過、沒有人登錄的卡", "最近刷过、没有人登记的卡", "Unknown cards tapped lately"},
	"seen.words":     {"按卡號就可以登錄給人。", "按卡号就可以登记给人。", "Follow a card's number to give it to somebody."},
	"seen.times":     {"次數", "次数", "Taps"},
	"seen.last":      {"最後一次", "最后一次", "Last"},
	"lost":           {"遺失的卡片", "遗失的卡片", "Lost cards"},
	"lost.words":     {"停用後，下一次刷卡就會被拒絕，並留下紀錄；不會顯示是誰的卡。", "停用后，下一次刷卡就会被拒绝，并留下记录；不会显示是谁的卡。", "A blocked card is refused from its next tap on, and noted; the door does not say whose it was."},
	"lost.since":     {"停用時間", "停用时间", "Blocked since"},
	"lost.go":        {"停用這張卡", "停用这张卡", "Block this card"},
	"lost.ask":       {"停用這張卡？", "停用这张卡？", "Block this card?"},
	"lost.done":      {"%s 已停用。", "%s 已停用。", "%s is blocked."},
	"lost.found":     {"恢復使用", "恢复使用", "It was found"},
	"lost.found.ask": {"恢復使用這張卡？", "恢复使用这张卡？", "Take this card again?"},
	"lost.again":     {"%s 可以使用了。", "%s 可以使用了。", "%s is taken again."},
	"card.form":      {"看不懂這個卡號；請照卡片上的數字或名冊裡的寫法。", "看不懂这个卡号；请照卡片上的数字或名册里的写法。", "That is no card's number: write the digits printed on it, or what the roster has."},

	"today":       {"今日打卡", "今日打卡", "Today"},
	"today.none":  {"今天還沒有人打卡。", "今天还没有人打卡。", "No punches yet today."},
	"today.count": {"共 %d 筆", "共 %d 笔", "%d punches"},
	"outcome":     {"結果", "结果", "Outcome"},

	"outcome.stored":        {"已儲存", "已保存", "stored"},
	"outcome.duplicate":     {"重複", "重复", "duplicate"},
	"outcome.unknown_badge": {"卡片未登錄", "卡片未登记", "unknown card"},
	"outcome.misread":       {"讀取失敗", "读取失败", "misread"},
	"outcome.blocked_badge": {"卡片已停用", "卡片已停用", "blocked card"},
	"outcome.not_stored":    {"未儲存", "未保存", "not stored"},

	"plots":        {"圖表", "图表", "Plots"},
	"plot.punches": {"每五分鐘打卡數（24 小時）", "每五分钟打卡数（24 小时）", "Punches per five minutes, 24 hours"},
	"plot.queue":   {"待送筆數（24 小時）", "待发笔数（24 小时）", "Waiting to be sent, 24 hours"},
	"plot.commit":  {"寫入時間（每五分鐘最慢）", "写入时间（每五分钟最慢）", "Time to store a punch, slowest of five minutes"},
	"plot.call":    {"對方回應時間（每五分鐘最慢）", "对方响应时间（每五分钟最慢）", "Time of a call to a destination, slowest of five minutes"},
	"plot.bound":   {"時鐘可能誤差", "时钟可能误差", "How far the clock could be off"},
	"hour":         {"時段", "时段", "Hour"},
	"total":        {"合計", "合计", "Total"},
	"busiest":      {"最忙的五分鐘", "最忙的五分钟", "Busiest five minutes"},
	"worst":        {"最大", "最大", "Worst"},

	"export":        {"匯出", "导出", "Export"},
	"export.words":  {"打卡記錄與送達狀況，依時間排列。", "打卡记录与送达状况，依时间排列。", "Punches and where they have arrived, the oldest first."},
	"export.since":  {"從", "从", "From"},
	"export.until":  {"到（含）", "到（含）", "Up to and with"},
	"export.who":    {"只要這個員工編號", "只要这个员工编号", "Only this employee number"},
	"export.format": {"格式", "格式", "Format"},
	"export.csv":    {"CSV（試算表）", "CSV（电子表格）", "CSV (spreadsheet)"},
	"export.go":     {"下載", "下载", "Download"},
	"export.at":     {"已看過 %d / %d 筆，匯出 %d 筆…", "已看过 %d / %d 笔，导出 %d 笔…", "%d of %d looked at, %d exported…"},
	"export.done":   {"已匯出 %d 筆。", "已导出 %d 笔。", "%d exported."},

	"check":         {"自我檢測", "自检", "Self-test"},
	"check.words":   {"檢查主機板、記憶卡、時鐘、網路、目的地、名冊與讀卡機。不會更動任何東西，最長約一分鐘。", "检查主板、存储卡、时钟、网络、目的地、名册与读卡器。不会更动任何东西，最长约一分钟。", "Board, card, clock, network, destinations, roster and readers are looked at. Nothing is changed; it may take a minute."},
	"check.go":      {"開始檢測", "开始检测", "Start"},
	"check.busy":    {"檢測中…", "检测中…", "checking…"},
	"check.other":   {"檢測已在進行中。", "检测已在进行中。", "It is running already."},
	"check.sum":     {"%s：%d 項正常，%d 項注意，%d 項失敗，%d 項無法檢查", "%s：%d 项正常，%d 项注意，%d 项失败，%d 项无法检查", "%s: %d ok, %d warnings, %d failed, %d could not be checked"},
	"check.ok":      {"正常", "正常", "ok"},
	"check.warn":    {"注意", "注意", "warning"},
	"check.fail":    {"失敗", "失败", "FAILED"},
	"check.unknown": {"無法檢查", "无法检查", "unknown"},
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
