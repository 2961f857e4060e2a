package text

// en is English.
var en = map[Key]string{
	KindIn:     "In",
	KindOut:    "Out",
	KindGoOut:  "Going out",
	KindReturn: "Back in",

	GreetIn:     "Welcome. Have a good day",
	GreetOut:    "Thank you. Goodbye",
	GreetGoOut:  "Take care out there",
	GreetReturn: "Welcome back",

	Stored:          "Punched",
	StoredUncertain: "Recorded; the time will be corrected",
	Duplicate:       "You have just punched",
	UnknownBadge:    "Card not registered. Recorded; please see HR",
	Misread:         "Could not read. Please tap again",
	NotStored:       "Not saved. Please tap again",

	WhyChosen:   "chosen",
	WhySchedule: "by time of day",
	WhyPerson:   "by your last punch",
	ChosenFor:   "for %d s more",

	IdleTap:     "Tap your card",
	IdleSent:    "Everything is uploaded",
	PendingOne:  "%d punch to upload, waiting %s",
	PendingMany: "%d punches to upload, oldest waiting %s",
	ParkedOne:   "%d punch needs attention",
	ParkedMany:  "%d punches need attention",

	Online:        "Online",
	Offline:       "Offline. Punches are recorded as usual",
	ClockUnset:    "The clock has not been set yet",
	ClockHoldover: "The clock is not following a time server",
	ReaderDown:    "Reader %s is not connected",
	PageLost:      "This page lost the punch clock. Reconnecting",
	NotReady:      "Punches cannot be saved now. Please tell the office",
	Mended:        "Stored data was damaged and has been repaired",
	SpaceLow:      "Storage is nearly full",

	PINTitle:     "Punch by employee number",
	PINNumber:    "Employee no.",
	PINPassword:  "PIN",
	PINConfirm:   "OK",
	PINClear:     "Clear",
	PINCancel:    "Cancel",
	PINWrong:     "Wrong employee number or PIN",
	PINWait:      "Too many wrong tries. Wait %d s",
	LanguageName: "English",

	Seconds: "%d s",
	Minutes: "%d min",
	Hours:   "%d h",
	Days:    "%d days",

	Sunday:     "Sunday",
	Monday:     "Monday",
	Tuesday:    "Tuesday",
	Wednesday:  "Wednesday",
	Thursday:   "Thursday",
	Friday:     "Friday",
	Saturday:   "Saturday",
	DateLayout: "2 January 2006",
	DateLine:   "%[2]s, %[1]s",
}
