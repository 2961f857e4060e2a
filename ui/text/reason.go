package text

// The words of the work list: why a destination has not taken a punch, and what HR
// does about it. They are looked up by the outbox's reason codes, which the
// destinations define, and stand in no page; so they are no Keys. The order in each
// row is that of the languages table, of which it has the three of the office; whoever
// has the door in another reads the list in the first.

// reasons say what is wrong, then what to do.
var reasons = map[string][3]string{
	"unknown_badge": {"卡片不屬於任何人：請在名冊登錄這張卡", "卡片不属于任何人：请在名册登记这张卡", "the card belongs to nobody: enter it in the roster"},
	"time_uncertain": {"打卡鐘當時不知道時間：請確認本人何時打卡", "打卡钟当时不知道时间：请确认本人何时打卡",
		"the clock did not know the time: ask the person when it was"},
	"superseded":          {"已由更正的一筆取代，不再送出", "已由更正的一笔取代，不再发送", "a correction takes its place: it is not sent any more"},
	"emp_no_blank":        {"沒有員工編號", "没有员工编号", "there is no employee number"},
	"emp_no_invalid":      {"員工編號含有無法傳送的字元：請修正名冊", "员工编号含有无法传送的字符：请修正名册", "the employee number holds characters that cannot be sent: correct the roster"},
	"emp_no_unknown":      {"對方沒有這個員工編號：請在對方系統新增此人", "对方没有这个员工编号：请在对方系统新增此人", "the other side does not have this employee number: add the person there"},
	"unknown_user":        {"對方沒有此人，或應用程式無權存取：請在對方系統新增或授權", "对方没有此人，或应用无权访问：请在对方系统新增或授权", "the other side does not know the person, or the app may not see them: add or permit them there"},
	"user_not_approved":   {"此人在對方系統未經核可：請核可", "此人在对方系统未经核可：请核可", "the person is not approved at the other side: have them approved"},
	"no_feishu_id":        {"名冊缺少此人的飛書編號：請補上 feishu_id", "名册缺少此人的飞书编号：请补上 feishu_id", "the roster lacks this person's feishu_id: add it"},
	"no_attendance_group": {"此人不在任何考勤組：請在對方系統加入", "此人不在任何考勤组：请在对方系统加入", "the person is in no attendance group: add them to one there"},
	"period_sealed":       {"該期間已封存：請在對方系統解封，或以補卡處理", "该期间已封存：请在对方系统解封，或以补卡处理", "HR has closed that period: open it there, or enter a correction there"},
	"bad_time":            {"對方不接受這個時間", "对方不接受这个时间", "the other side does not take this time"},
	"bad_kind":            {"打卡類別不是上班、下班、外出、外歸之一", "打卡类别不是上班、下班、外出、外归之一", "the punch is none of the four kinds"},
	"bad_param":           {"對方認為資料有誤", "对方认为数据有误", "the other side finds the record wrong"},
	"ignored_by_104":      {"104 略過了這一筆：見對方訊息", "104 略过了这一笔：见对方信息", "104 ignored it: see its message"},
	"rejected_by_104":     {"104 拒收這一筆：見對方訊息", "104 拒收这一笔：见对方信息", "104 refused it: see its message"},
	"unclear_from_104":    {"104 的回覆五次都不明確：請在 104 查看是否已有此筆", "104 的回复五次都不明确：请在 104 查看是否已有此笔", "104 answered unclearly five times: look there whether it has the punch"},
	"rejected_by_feishu":  {"飛書拒收這一筆：見對方訊息", "飞书拒收这一笔：见对方信息", "Feishu refused it: see its message"},
	"no_row_affected":     {"飛書五次都未寫入：請稍後再送", "飞书五次都未写入：请稍后再送", "Feishu wrote nothing five times: send it again later"},
	"system_error":        {"這一筆總是讓飛書出錯：請洽飛書客服", "这一笔总是让飞书出错：请联系飞书客服", "this punch alone makes Feishu fail: ask its support"},
	"http400":             {"對方認為這一筆有誤：見對方訊息", "对方认为这一笔有误：见对方信息", "the other side finds this record wrong: see its message"},
	"odd_answer":          {"對方五次都沒有回答是或否：請洽系統管理者", "对方五次都没有回答是或否：请联系系统管理者", "the other side said neither yes nor no five times: ask the system's owner"},
}

// Reason returns why a punch was not taken, in words; the code itself where there
// are none, and "" for "".
func (c Catalog) Reason(code string) string {
	if w, ok := reasons[code]; ok {
		return w[c.office()]
	}
	return code
}

// office returns the place of the catalog's language in the rows here.
func (c Catalog) office() int {
	if c.at < len(columns["time"]) {
		return c.at
	}
	return 0
}

// columns are the headings of the work list.
var columns = map[string][3]string{
	"punch_id":    {"打卡編號", "打卡编号", "Punch"},
	"time":        {"打卡時間", "打卡时间", "Time"},
	"employee_no": {"員工編號", "员工编号", "Employee number"},
	"kind":        {"類別", "类别", "Kind"},
	"destination": {"送往", "送往", "Destination"},
	"state":       {"狀態", "状态", "State"},
	"reason":      {"原因", "原因", "Reason"},
	"message":     {"對方訊息", "对方信息", "The other side's words"},
	"first_seen":  {"首次發生", "首次发生", "First seen"},
	"tries":       {"嘗試次數", "尝试次数", "Tries"},
	"pending":     {"待送", "待送", "pending"},
	"parked":      {"待人工處理", "待人工处理", "waits for a person"},
}

// Column returns the heading of a column of the work list, and the words for what
// may stand in its state; "" for one that is not there.
func (c Catalog) Column(name string) string { return columns[name][c.office()] }
