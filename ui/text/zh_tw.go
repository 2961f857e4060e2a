package text

// zhTW is 正體中文, as written in Taiwan. Every key is here.
var zhTW = map[Key]string{
	KindIn:     "上班",
	KindOut:    "下班",
	KindGoOut:  "外出",
	KindReturn: "外歸",

	GreetIn:     "您好，祝工作順利",
	GreetOut:    "辛苦了，再見",
	GreetGoOut:  "路上小心",
	GreetReturn: "歡迎回來",

	Stored:          "打卡成功",
	StoredUncertain: "已記錄，時間待校正",
	Duplicate:       "剛才已打過卡",
	UnknownBadge:    "卡片未登錄，已記錄，請洽人資",
	Misread:         "讀取失敗，請再刷一次",
	NotStored:       "未儲存，請再刷一次",

	WhyChosen:   "已選擇",
	WhySchedule: "依時段",
	WhyPerson:   "依上一筆",
	ChosenFor:   "%d 秒後恢復",

	IdleTap:     "請刷卡",
	IdleSent:    "全部已上傳",
	PendingOne:  "%d 筆待上傳，最舊 %s",
	PendingMany: "%d 筆待上傳，最舊 %s",
	ParkedOne:   "%d 筆需人工處理",
	ParkedMany:  "%d 筆需人工處理",

	Online:        "連線正常",
	Offline:       "離線中，打卡照常記錄",
	ClockUnset:    "時鐘尚未校正",
	ClockHoldover: "時鐘未與時間伺服器同步",
	ReaderDown:    "讀卡機 %s 未連線",
	PageLost:      "畫面與打卡鐘失去連線，重新連線中",
	NotReady:      "目前無法打卡，請通知管理員",
	Mended:        "資料曾受損並已修復，請通知管理員",
	SpaceLow:      "儲存空間即將用完",

	PINTitle:     "員編打卡",
	PINNumber:    "員編",
	PINPassword:  "密碼",
	PINConfirm:   "確認",
	PINClear:     "清除",
	PINCancel:    "取消",
	PINWrong:     "員編或密碼錯誤",
	PINWait:      "錯誤次數過多，請 %d 秒後再試",
	LanguageName: "繁體中文",

	Seconds: "%d 秒",
	Minutes: "%d 分鐘",
	Hours:   "%d 小時",
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
