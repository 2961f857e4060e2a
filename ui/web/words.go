package web

// words returns every sentence of the page in a language, by key. {n} and the
// like are filled in by the page.
func words(lang string) map[string]string {
	return map[string]string{
		"title": "打卡", "prompt": "請刷卡", "kinds": "類別", "noscript": "此頁需要 JavaScript",
		"kind.in": "上班", "kind.out": "下班", "kind.go-out": "外出", "kind.return": "外歸",
		"why.chosen": "已選擇", "why.chosen.left": "已選擇 {n} 秒", "why.schedule": "依時段", "why.person": "依個人上次打卡",
		"kind.failed": "無法選擇類別", "clock.unset": "時間尚未校正", "clock.holdover": "時間自走中",
		"offline": "與打卡機連線中斷", "unready": "目前無法打卡", "reader.down": "讀卡機未連線：{names}",
		"age.seconds": "{n} 秒", "age.minutes": "{n} 分鐘", "age.hours": "{n} 小時", "age.days": "{n} 天",
		"line.done": "全部已上傳", "line.pending": "{n} 筆待上傳，最舊 {age}", "line.stuck": "請通知管理員",
		"head.duplicate": "已打過卡", "head.unknown_badge": "卡片未登錄", "head.misread": "請再刷一次", "head.not_stored": "未記錄",
		"say.stored": "已記錄", "say.unset": "已記錄，時間待校正", "say.duplicate": "剛才已記錄，不需再刷", "say.unknown_badge": "已記錄，請洽人資",
		"say.misread": "卡片沒有讀到", "say.not_stored": "請通知管理員", "list.comma": "，",
		"pin.open": "輸入工號", "pin.title": "以工號打卡", "pin.number": "工號", "pin.pin": "密碼", "pin.ok": "打卡", "pin.cancel": "取消", "pin.back": "刪除",
		"pin.wrong": "工號或密碼不正確", "pin.wait": "請於 {n} 秒後再試", "pin.failed": "無法打卡，請再試一次",
	}
}
