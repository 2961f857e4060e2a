package text

// zhCN is 简体中文, with the words of the mainland: 工号, 打卡, 人事.
var zhCN = map[Key]string{
	KindIn:     "上班",
	KindOut:    "下班",
	KindGoOut:  "外出",
	KindReturn: "外出返回",

	GreetIn:     "您好，祝工作顺利",
	GreetOut:    "辛苦了，再见",
	GreetGoOut:  "路上小心",
	GreetReturn: "欢迎回来",

	Stored:          "打卡成功",
	StoredUncertain: "已记录，时间待校正",
	Duplicate:       "刚才已打过卡",
	UnknownBadge:    "卡片未登记，已记录，请联系人事",
	Misread:         "读取失败，请再刷一次",
	NotStored:       "未保存，请再刷一次",

	WhyChosen:   "已选择",
	WhySchedule: "按时段",
	WhyPerson:   "按上一次",
	ChosenFor:   "%d 秒后恢复",

	IdleTap:     "请刷卡",
	IdleSent:    "全部已上传",
	PendingOne:  "%d 条待上传，最早 %s前",
	PendingMany: "%d 条待上传，最早 %s前",
	ParkedOne:   "%d 条需人工处理",
	ParkedMany:  "%d 条需人工处理",

	Online:        "网络正常",
	Offline:       "离线中，打卡照常记录",
	ClockUnset:    "时钟尚未校准",
	ClockHoldover: "时钟未与时间服务器同步",
	ReaderDown:    "读卡器 %s 未连接",
	PageLost:      "画面与打卡机失去连接，正在重新连接",
	NotReady:      "目前无法打卡，请通知管理员",
	Mended:        "数据曾受损并已修复，请通知管理员",
	SpaceLow:      "存储空间即将用完",

	PINTitle:     "工号打卡",
	PINNumber:    "工号",
	PINPassword:  "密码",
	PINConfirm:   "确认",
	PINClear:     "清除",
	PINCancel:    "取消",
	PINWrong:     "工号或密码错误",
	PINWait:      "错误次数过多，请 %d 秒后再试",
	LanguageName: "简体中文",

	Seconds: "%d 秒",
	Minutes: "%d 分钟",
	Hours:   "%d 小时",
	Days:    "%d 天",

	Sunday:     "星期日",
	Monday:     "星期一",
	Tuesday:    "星期二",
	Wednesday:  "星期三",
	Thursday:   "星期四",
	Friday:     "星期五",
	Saturday:   "星期六",
	DateLayout: "2006年1月2日",
	DateLine:   "%[1]s %[2]s",
}
