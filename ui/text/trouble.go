package text

import "strings"

// The words for what goes wrong at a destination, and for what doctor looks at. Both are
// told in English where they happen, for consoles and logs; a page in Chinese says it in
// Chinese and leaves the English below. A test reads the destinations' and doctor's source
// for a sentence that has no row here.

// troubles are found by what stands in the English. The first that fits is told, so that
// what is special stands before what is general.
var troubles = []struct {
	in string
	zh [2]string
}{
	// 104
	{"(code 490)", [2]string{"104 表示公司帳號已停用或欠費：請人資與 104 處理", "104 表示公司账号已停用或欠费：请人事与 104 处理"}},
	{"the company's account is closed", [2]string{"104 表示公司帳號已停用或欠費：請人資與 104 處理", "104 表示公司账号已停用或欠费：请人事与 104 处理"}},
	{"104 console, to the use", [2]string{"公司尚未同意使用：請人資在 104 後台同意", "公司尚未同意使用：请人事在 104 后台同意"}},
	{"has not agreed to the use", [2]string{"公司尚未同意使用：請人資在 104 後台同意", "公司尚未同意使用：请人事在 104 后台同意"}},
	{"the right to write punches", [2]string{"帳號沒有寫入打卡的權限：請 104 開通 transferCard", "账号没有写入打卡的权限：请 104 开通 transferCard"}},
	{"no permission (HTTP 403)", [2]string{"帳號沒有寫入打卡的權限：請 104 開通 transferCard", "账号没有写入打卡的权限：请 104 开通 transferCard"}},
	{"may still write punches", [2]string{"104 不再接受這個帳號：請 104 確認 client_id 的權限（scope prohrm）", "104 不再接受这个账号：请 104 确认 client_id 的权限（scope prohrm）"}},
	{"client_id with what 104 gave you", [2]string{"帳號或密鑰不對：核對 client_id，更正密鑰檔，並請 104 確認權限", "账号或密钥不对：核对 client_id，更正密钥文件，并请 104 确认权限"}},
	{"a proxy between this clock and 104", [2]string{"單筆打卡也被當成太大：中間的代理伺服器可能限制上傳", "单笔打卡也被当成太大：中间的代理服务器可能限制上传"}},
	{"report this to the maker", [2]string{"不會遺失；請把這段訊息與時間回報廠商", "不会丢失；请把这段信息与时间反馈给厂商"}},
	{"unexpected error (code 493)", [2]string{"104 內部錯誤，會自動再送", "104 内部错误，会自动再发"}},
	// 飛書
	{"IP allow-list", [2]string{"請把本地的對外 IPv4 加入飛書應用的 IP 白名單", "请把本地的公网 IPv4 加入飞书应用的 IP 白名单"}},
	{"attendance:task", [2]string{"請在飛書開發者後台開通「打卡」權限（attendance:task），發布版本並審核", "请在飞书开发者后台开通“打卡”权限（attendance:task），发布版本并审核"}},
	{"give the app the permission", [2]string{"請在飛書開發者後台開通訊息中的權限，發布版本並審核", "请在飞书开发者后台开通信息中的权限，发布版本并审核"}},
	{"custom app of this company", [2]string{"請在飛書開發者後台確認 app_id 是本公司的自建應用，且有考勤的應用權限", "请在飞书开发者后台确认 app_id 是本公司的自建应用，且有考勤的应用权限"}},
	{"which custom app uses them", [2]string{"本月呼叫次數用完：加購，或等下月一日；不會遺失", "本月调用次数用完：加购，或等下月一日；不会丢失"}},
	{"set employee_type to", [2]string{"employee_type 要填 employee_no 或 employee_id", "employee_type 要填 employee_no 或 employee_id"}},
	{"data range cover", [2]string{"請在飛書考勤後台把這些人納入應用的資料範圍", "请在飞书考勤后台把这些人纳入应用的数据范围"}},
	{"the right to import records", [2]string{"請在飛書考勤後台給應用或 creator_id 匯入紀錄的權限", "请在飞书考勤后台给应用或 creator_id 导入记录的权限"}},
	{"People Enterprise", [2]string{"飛書方案不含考勤匯入：請洽飛書升級為人事企業版", "飞书方案不含考勤导入：请联系飞书升级为人事企业版"}},
	{"app is enabled, published", [2]string{"剛取得的憑證就被拒：請在飛書開發者後台確認應用已啟用、發布並審核", "刚取得的凭证就被拒：请在飞书开发者后台确认应用已启用、发布并审核"}},
	{"app_id with the Feishu developer console", [2]string{"帳號或密鑰不對：核對 app_id，更正 app_secret_file；會自動重讀", "账号或密钥不对：核对 app_id，更正 app_secret_file；会自动重读"}},
	{"set base_url to https://open", [2]string{"base_url 不對：大陸用 https://open.feishu.cn，Lark 用 https://open.larksuite.com", "base_url 不对：大陆用 https://open.feishu.cn，Lark 用 https://open.larksuite.com"}},
	// 線上打卡系統
	{"save password_file as UTF-8", [2]string{"密碼檔要存成 UTF-8", "密码文件要存成 UTF-8"}},
	{"current password into password_file", [2]string{"密碼不對：更正 password_file 或 user_id；帳號可能會被鎖，所以不自動重試", "密码不对：更正 password_file 或 user_id；账号可能会被锁，所以不自动重试"}},
	{"have user_id approved", [2]string{"帳號尚未核可：請在打卡系統核可，再執行 punchclock queue retry", "账号尚未核可：请在打卡系统核可，再执行 punchclock queue retry"}},
	{"check user_id and the password", [2]string{"登入被拒：核對 user_id 與密碼檔，再執行 punchclock queue retry", "登录被拒：核对 user_id 与密码文件，再执行 punchclock queue retry"}},
	{"check token_transport", [2]string{"剛取得的憑證就被拒：檢查 token_transport，以及帳號能否代人打卡", "刚取得的凭证就被拒：检查 token_transport，以及账号能否代人打卡"}},
	{"may read others' punches", [2]string{"帳號不能查他人的打卡：請洽系統管理者；不影響傳送", "账号不能查他人的打卡：请联系系统管理者；不影响发送"}},
	{"may punch for others", [2]string{"帳號不能代人打卡：請洽系統管理者，或設 mode = \"off\"", "账号不能代人打卡：请联系系统管理者，或设 mode = \"off\""}},
	{"for its paths and correct base_url", [2]string{"路徑不對：請洽系統管理者，更正 base_url 或路徑設定", "路径不对：请联系系统管理者，更正 base_url 或路径设置"}},
	// every one of them
	{"proxy_login_file", [2]string{"代理伺服器不接受帳號：把 user:password 寫入 proxy_login_file；會自動重讀", "代理服务器不接受账号：把 user:password 写入 proxy_login_file；会自动重读"}},
	{"the proxy: ", [2]string{"代理伺服器不讓連線：檢查它的位址與它允許的網址", "代理服务器不让连接：检查它的地址与它允许的网址"}},
	{"proxyconnect", [2]string{"連不上代理伺服器：檢查它的位址", "连不上代理服务器：检查它的地址"}},
	{"set token_url to", [2]string{"token_url 不對：照訊息中的網址更正", "token_url 不对：照信息中的网址更正"}},
	{"set api_base to", [2]string{"api_base 不對：照訊息中的網址更正", "api_base 不对：照信息中的网址更正"}},
	{"the permissions of this client", [2]string{"剛取得的憑證就被拒：請對方檢查此帳號的權限", "刚取得的凭证就被拒：请对方检查此账号的权限"}},
	{"check the client id, its secret", [2]string{"帳號、密鑰或權限不對：請與對方核對", "账号、密钥或权限不对：请与对方核对"}},
	{"a portal or proxy in between", [2]string{"收到的不是對方的回覆：可能被登入網頁或代理伺服器攔下", "收到的不是对方的回复：可能被登录网页或代理服务器拦下"}},
	{": read the ", [2]string{"讀不到密鑰檔：檢查檔名、位置與權限", "读不到密钥文件：检查文件名、位置与权限"}},
	{"put the ", [2]string{"照原文補上或更正檔案", "照原文补上或更正文件"}},
	{" is empty", [2]string{"密鑰檔是空的", "密钥文件是空的"}},
	{"has expired or is not yet valid", [2]string{"對方的憑證過期，或打卡鐘的時間不對", "对方的证书过期，或打卡钟的时间不对"}},
	{"unknown authority", [2]string{"不認得對方憑證的簽發者：若公司有代理伺服器，在 ca_file 加上它的憑證", "不认得对方证书的签发者：若公司有代理服务器，在 ca_file 加上它的证书"}},
	{"x509: ", [2]string{"對方的憑證有問題：可能被攔截，或網址不對", "对方的证书有问题：可能被拦截，或网址不对"}},
	{"tls: ", [2]string{"加密連線失敗：可能被防火牆或代理伺服器攔截", "加密连接失败：可能被防火墙或代理服务器拦截"}},
	{"no such host", [2]string{"查不到對方的主機名稱：檢查網路與 DNS", "查不到对方的主机名：检查网络与 DNS"}},
	{"server misbehaving", [2]string{"查不到對方的主機名稱：檢查網路與 DNS", "查不到对方的主机名：检查网络与 DNS"}},
	{"network is unreachable", [2]string{"打卡鐘沒有網路：檢查網路線或 Wi-Fi", "打卡钟没有网络：检查网线或 Wi-Fi"}},
	{"no route to host", [2]string{"打卡鐘沒有網路：檢查網路線或 Wi-Fi", "打卡钟没有网络：检查网线或 Wi-Fi"}},
	{"connection refused", [2]string{"對方主機拒絕連線：可能暫停服務，或網址不對", "对方主机拒绝连接：可能暂停服务，或网址不对"}},
	{"timeout", [2]string{"對方沒有及時回應，會自動再送", "对方没有及时响应，会自动再发"}},
	{"deadline exceeded", [2]string{"對方沒有及時回應，會自動再送", "对方没有及时响应，会自动再发"}},
	{"broke off", [2]string{"連線中途斷掉，會自動再送", "连接中途断开，会自动再发"}},
	{"connection reset", [2]string{"連線中途斷掉，會自動再送", "连接中途断开，会自动再发"}},
	{"EOF", [2]string{"連線中途斷掉，會自動再送", "连接中途断开，会自动再发"}},
	{"HTTP 429", [2]string{"對方要求放慢，會自動再送", "对方要求放慢，会自动再发"}},
	{"HTTP 5", [2]string{"對方系統暫時故障，會自動再送", "对方系统暂时故障，会自动再发"}},
	{"no such address", [2]string{"網址不對：檢查設定檔中的網址", "网址不对：检查配置文件中的网址"}},
}

// Trouble returns in Chinese what an error of a destination says in English, "" where it
// is not known, or the office reads English.
func (c Catalog) Trouble(err string) string {
	if c.office() < 2 {
		for _, t := range troubles {
			if strings.Contains(err, t.in) {
				return t.zh[c.office()]
			}
		}
	}
	return ""
}

// checks are the names of what doctor looks at, and what a person does where one of them
// is not well: the same twice in a row, in the two ways of writing.
var checks = map[string][4]string{
	"version":                  {"版本", "版本", "更新程式，或還原上一版", "更新程序，或恢复上一版"},
	"update":                   {"程式更新", "程序更新", "新版已退回：照原文排除後執行 punchclock update --again，或發布新版", "新版已退回：照原文排除后执行 punchclock update --again，或发布新版"},
	"program":                  {"程式", "程序", "程式沒有執行：看記錄檔，再重新啟動", "程序没有运行：看日志，再重新启动"},
	"system":                   {"作業系統", "操作系统", "系統有服務失敗，看原文", "系统有服务失败，看原文"},
	"service":                  {"服務", "服务", "服務沒有執行：看原文，再重新啟動", "服务没有运行：看原文，再重新启动"},
	"certificates":             {"憑證", "证书", "補上憑證或私鑰檔，過期的換新", "补上证书或私钥文件，过期的换新"},
	"collector":                {"收集主機", "收集主机", "連不到收集主機：看網路、位址與憑證", "连不到收集主机：看网络、地址与证书"},
	"waiting":                  {"待送出", "待发送", "記錄還沒送出，收集主機恢復後會自己補送", "日志还没发送，收集主机恢复后会自己补发"},
	"board":                    {"主機板", "主板", "這種主機板沒有試過", "这种主板没有试过"},
	"supply voltage":           {"供電電壓", "供电电压", "換原廠電源與較短較粗的線", "换原厂电源与较短较粗的线"},
	"temperature":              {"溫度", "温度", "過熱：加散熱片，避開日曬", "过热：加散热片，避开日晒"},
	"hardware watchdog":        {"硬體看門狗", "硬件看门狗", "當機時不會自動重開：載入驅動程式", "死机时不会自动重启：加载驱动程序"},
	"what the unit may do":     {"服務的權限", "服务的权限", "服務單元被改寬：用 punchclock units 的內容還原", "服务单元被改宽：用 punchclock units 的内容恢复"},
	"file":                     {"設定檔", "配置文件", "照原文更正設定檔", "照原文更正配置文件"},
	"secrets and certificates": {"密鑰與憑證檔", "密钥与证书文件", "補上檔案，或更正權限", "补上文件，或更正权限"},
	"folder":                   {"資料夾", "文件夹", "更正資料夾的擁有者與權限", "更正文件夹的所有者与权限"},
	"space":                    {"剩餘空間", "剩余空间", "清出空間；已存的打卡不會被覆寫", "清出空间；已存的打卡不会被覆盖"},
	"file system":              {"檔案系統", "文件系统", "檔案系統不合適或唯讀：重開機檢查，再不行換卡", "文件系统不合适或只读：重启检查，再不行换卡"},
	"time to store":            {"寫入時間", "写入时间", "記憶卡太慢或快壞了：換卡", "存储卡太慢或快坏了：换卡"},
	"written to it":            {"寫入量", "写入量", "寫入量異常，看原文", "写入量异常，看原文"},
	"medium's life":            {"記憶卡壽命", "存储卡寿命", "記憶卡將到壽命：先備好新卡", "存储卡将到寿命：先备好新卡"},
	"outbox":                   {"打卡資料", "打卡数据", "照原文處理；不要刪除任何檔案", "照原文处理；不要删除任何文件"},
	"takes punches":            {"可否打卡", "可否打卡", "目前無法打卡：照原文處理", "目前无法打卡：照原文处理"},
	"damage":                   {"損壞", "损坏", "有檔案曾損壞並已修復：執行 punchclock verify", "有文件曾损坏并已修复：运行 punchclock verify"},
	"second copy":              {"第二份備份", "第二份备份", "備份跟不上：看空間、權限與媒體", "备份跟不上：看空间、权限与介质"},
	"chain of records":         {"紀錄鏈", "记录链", "紀錄不連續：停機並執行 punchclock recover", "记录不连续：停机并运行 punchclock recover"},
	"time":                     {"時間", "时间", "接上網路，或加裝電池時鐘", "接上网络，或加装电池时钟"},
	"battery clock":            {"電池時鐘", "电池时钟", "沒有電池時鐘：停電後沒網路時，打卡會先保留", "没有电池时钟：停电后没网络时，打卡会先保留"},
	"far sides' clocks":        {"與對方的時鐘", "与对方的时钟", "其中一邊的時間不對：檢查校時伺服器", "其中一边的时间不对：检查校时服务器"},
	"people":                   {"人員", "人员", "匯入名冊", "导入名册"},
	"badges":                   {"卡片", "卡片", "有卡片重複或看不懂：看原文", "有卡片重复或看不懂：看原文"},
	"source":                   {"名冊來源", "名册来源", "名冊來源讀不到：仍用上一份", "名册来源读不到：仍用上一份"},
	"name":                     {"主機名稱", "主机名", "查不到對方主機：檢查 DNS", "查不到对方主机：检查 DNS"},
	"connection":               {"連線", "连接", "連不上對方：檢查網路、防火牆與代理伺服器", "连不上对方：检查网络、防火墙与代理服务器"},
	"credentials":              {"帳號與密鑰", "账号与密钥", "更正密鑰檔；不必重新啟動", "更正密钥文件；不必重新启动"},
	"delivery":                 {"傳送", "发送", "有打卡還沒送出：看原文", "有打卡还没送出：看原文"},
	"parked punches":           {"待處理的打卡", "待处理的打卡", "到「待處理」逐筆處理", "到“待处理”逐笔处理"},
	"device":                   {"裝置", "设备", "沒有接上或名稱不對：檢查插頭、線與設定", "没有接上或名称不对：检查插头、线与设置"},
	"access":                   {"使用權限", "使用权限", "程式的帳號不能開啟：檢查群組與 udev 規則", "程序的账号不能打开：检查用户组与 udev 规则"},
	"reads":                    {"讀取", "读取", "讀卡機沒有運作：檢查供電與接線", "读卡器没有工作：检查供电与接线"},
	"traffic":                  {"刷卡情形", "刷卡情况", "和平常不同：刷一張卡試試", "和平常不同：刷一张卡试试"},
	"chip":                     {"晶片", "芯片", "找不到 GPIO 晶片：檢查主機板與核心", "找不到 GPIO 芯片：检查主板与内核"},
	"lines":                    {"接腳", "引脚", "接腳被占用或不存在：檢查設定與 overlay", "引脚被占用或不存在：检查设置与 overlay"},
	"fonts":                    {"字型", "字体", "缺少字型：照原文安裝套件", "缺少字体：照原文安装软件包"},
	"page":                     {"網頁", "网页", "網頁沒有回應：重新啟動程式", "网页没有响应：重新启动程序"},

	// groups
	"punchclock":      {"punchclock", "punchclock"},
	"the clock":       {"打卡鐘程式", "打卡钟程序"},
	"configuration":   {"設定檔", "配置文件"},
	"state directory": {"資料目錄", "数据目录"},
	"GPIO":            {"GPIO", "GPIO"},
	"page and screen": {"網頁與畫面", "网页与画面"},
	"machine":         {"主機", "主机"},
	"systemd":         {"systemd", "systemd"},
	"state":           {"資料目錄", "数据目录"},
	"clock":           {"時鐘", "时钟"},
	"roster":          {"名冊", "名册"},
	"display":         {"小顯示器", "小显示屏"},
	"screen":          {"畫面", "画面"},
}

// Check returns the name of something that doctor looks at, or of a group of that, in the
// language of the office, and what to do where it is not well; "" where only the English
// of doctor itself says that.
func (c Catalog) Check(name string) (title, remedy string) {
	at := c.office()
	for english, zh := range map[string]string{"destination ": "目的地 ", "reader ": [2]string{"讀卡機 ", "读卡器 "}[min(at, 1)]} {
		if rest, ok := strings.CutPrefix(name, english); ok && at < 2 {
			return zh + rest, ""
		}
	}
	if row, ok := checks[name]; ok && at < 2 {
		return row[at], row[2+at]
	}
	return name, ""
}
