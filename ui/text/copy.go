package text

import (
	"fmt"
	"slices"
)

// copyLanguages are those of copyWords' columns.
var copyLanguages = []string{"vi", "id", "th", "fil"}

// copyWords are the sentences of a person's own copy in the languages that the office does
// not speak: what the office calls "copy." and the name.
var copyWords = map[string][4]string{
	"title":         {"Bản sao dữ liệu chấm công", "Salinan catatan kehadiran", "สำเนาบันทึกเวลาทำงาน", "Kopya ng tala ng pagpasok"},
	"who":           {"Nhân viên: %s", "Karyawan: %s", "พนักงาน: %s", "Empleyado: %s"},
	"clock":         {"Máy chấm công: %s (%s)", "Mesin absen: %s (%s)", "เครื่องบันทึกเวลา: %s (%s)", "Time clock: %s (%s)"},
	"made":          {"Lập lúc: %s, %d bản ghi", "Dibuat: %s, %d catatan", "จัดทำเมื่อ: %s, %d รายการ", "Ginawa: %s, %d tala"},
	"time":          {"Thời gian", "Waktu", "เวลา", "Oras"},
	"kind":          {"Loại", "Jenis", "ประเภท", "Uri"},
	"outcome":       {"Kết quả", "Hasil", "ผล", "Resulta"},
	"reader":        {"Đầu đọc", "Pembaca", "เครื่องอ่าน", "Reader"},
	"sent":          {"Chuyển đi", "Pengiriman", "การส่ง", "Pagpapadala"},
	"stored":        {"đã ghi", "tercatat", "บันทึกแล้ว", "naitala"},
	"duplicate":     {"quẹt lại", "tap ulang", "แตะซ้ำ", "inulit na tap"},
	"unknown_badge": {"thẻ lúc đó chưa đăng ký", "kartu saat itu belum terdaftar", "บัตรที่ยังไม่ลงทะเบียนในขณะนั้น", "card na hindi pa rehistrado noon"},
	"blocked_badge": {"thẻ bị khóa", "kartu diblokir", "บัตรถูกระงับ", "naka-block na card"},
	"typed":         {"(mã số và PIN)", "(nomor dan PIN)", "(รหัสและ PIN)", "(numero at PIN)"},
	"state_pending": {"chờ gửi", "menunggu", "รอส่ง", "naghihintay"},
	"state_delivered": {
		"đã gửi", "terkirim", "ส่งแล้ว", "naihatid"},
	"state_parked":  {"chờ xử lý", "perlu ditangani", "รอดำเนินการ", "kailangang ayusin"},
	"state_skipped": {"không gửi", "tidak dikirim", "ไม่ส่ง", "hindi ipinapadala"},
	"proof":         {"Cách kiểm tra", "Cara memeriksa", "วิธีตรวจสอบ", "Paano ito suriin"},
	"check": {
		"Dưới mỗi bản ghi là giá trị băm SHA-256 của nó, tính từ số thứ tự (tám byte, byte cao trước) và nội dung trường record trong tệp đính kèm.\nMỗi bản ghi chứa giá trị băm của bản ghi trước: sửa, xóa hay chèn một bản ghi thì chuỗi phía sau không còn khớp.\nTệp JSON đính kèm chứa các bản ghi gốc; công ty kiểm tra cả chuỗi bằng punchclock verify và so với giá trị băm cuối cùng dưới đây.",
		"Di bawah setiap catatan terdapat hash SHA-256-nya, dihitung dari nomor urut (delapan byte, byte tinggi dahulu) dan isi kolom record pada lampiran.\nSetiap catatan memuat hash catatan sebelumnya: bila satu catatan diubah, dihapus atau disisipkan, rantai sesudahnya tidak cocok lagi.\nLampiran JSON memuat catatan asli; perusahaan memeriksa seluruh rantai dengan punchclock verify dan membandingkannya dengan hash terakhir di bawah.",
		"ใต้แต่ละรายการคือค่าแฮช SHA-256 ของรายการนั้น คำนวณจากลำดับที่ (แปดไบต์ ไบต์สูงก่อน) และค่าในช่อง record ของไฟล์แนบ\nทุกรายการมีค่าแฮชของรายการก่อนหน้า หากรายการใดถูกแก้ไข ลบ หรือแทรก ห่วงโซ่หลังจากนั้นจะไม่ตรงกัน\nไฟล์ JSON ที่แนบมามีรายการต้นฉบับ นายจ้างตรวจสอบทั้งห่วงโซ่ได้ด้วย punchclock verify และเทียบกับค่าแฮชสุดท้ายด้านล่าง",
		"Sa ilalim ng bawat tala ay ang SHA-256 hash nito, na kinuwenta mula sa bilang nito (walong byte, mataas muna) at sa laman ng record sa kalakip.\nHawak ng bawat tala ang hash ng nauna: kapag may binago, binura o isiningit, hindi na tugma ang kadena pagkatapos nito.\nNasa kalakip na JSON ang mga orihinal na tala; masusuri ng kompanya ang buong kadena sa punchclock verify at maihahambing sa huling hash sa ibaba."},
	"head":  {"Khi lập bản này, chuỗi kết thúc ở số %d, giá trị băm là:", "Saat ini dibuat, rantai berakhir pada nomor %d, dengan hash:", "ขณะจัดทำ ห่วงโซ่สิ้นสุดที่ลำดับ %d ค่าแฮชคือ:", "Nang gawin ito, nagtapos ang kadena sa bilang %d, na ang hash ay:"},
	"kept":  {"Máy chấm công này giữ dữ liệu %d năm.", "Mesin absen ini menyimpan catatan selama %d tahun.", "เครื่องนี้เก็บบันทึกไว้ %d ปี", "Itinatago ng time clock na ito ang mga tala nang %d taon."},
	"fonts": {"Máy này không có phông cho mọi chữ: chữ Hán được hiện bằng phông của trình đọc, chữ hiện là ? có trong tệp đính kèm.", "Mesin ini tidak punya font untuk semua huruf: aksara Han ditampilkan dengan font pembaca Anda, dan yang tampil sebagai ? ada di lampiran.", "เครื่องนี้ไม่มีแบบอักษรครบทุกตัว: อักษรจีนแสดงด้วยแบบอักษรของโปรแกรมอ่าน และตัวที่แสดงเป็น ? มีอยู่ในไฟล์แนบ", "Walang font ang time clock na ito para sa lahat ng titik: ang mga titik Han ay sa font ng iyong reader, at nasa kalakip ang mga lumabas na ?."},
}

// Copy returns a sentence of a person's own copy, in any language, with its arguments
// where it has verbs.
func (c Catalog) Copy(name string, args ...any) string {
	s := c.InOffice().Office("copy." + name)
	if i := slices.Index(copyLanguages, c.Language()); i >= 0 {
		s = copyWords[name][i]
	}
	if len(args) == 0 {
		return s
	}
	return fmt.Sprintf(s, args...)
}
