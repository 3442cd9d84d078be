"""What abbreviations, units, currencies and symbols stand for in English."""

from __future__ import annotations

# Before a name; those of `BARE_TITLES` without a full stop too.
TITLES = {
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "Prof": "Professor", "Mt": "Mount", "Ft": "Fort",
    "Gen": "General", "Gov": "Governor", "Sen": "Senator", "Rep": "Representative", "Capt": "Captain",
    "Lt": "Lieutenant", "Col": "Colonel", "Sgt": "Sergeant", "Cmdr": "Commander", "Rev": "Reverend",
    "Hon": "Honorable", "Pres": "President", "Supt": "Superintendent", "Cpl": "Corporal", "Maj": "Major",
    "Adm": "Admiral", "Fr": "Father", "Msgr": "Monsignor", "Sr": "Sister", "Atty": "Attorney", "Pvt": "Private",
}  # fmt: skip
BARE_TITLES = {"Mr", "Mrs", "Ms", "Dr", "Prof", "Mt", "Ft"}

# With a full stop, which ends the sentence too where one begins after it.
DOTTED = {
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "Prof": "Professor", "Jr": "Junior", "Sr": "Senior",
    "Mt": "Mount", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Ln": "Lane", "Hwy": "Highway",
    "Pkwy": "Parkway", "Bldg": "Building", "Ltd": "Limited", "Inc": "Incorporated", "Corp": "Corporation",
    "Co": "Company", "Bros": "Brothers", "Dept": "Department", "dept": "department", "Univ": "University",
    "Assn": "Association", "Assoc": "Association", "Govt": "Government", "govt": "government",
    "Approx": "approximately", "approx": "approximately", "vs": "versus", "v": "versus", "cf": "compare",
    "e.g": "for example", "E.g": "For example", "i.e": "that is", "I.e": "That is", "a.k.a": "also known as",
    "Jan": "January", "Feb": "February", "Apr": "April", "Jun": "June", "Jul": "July", "Aug": "August",
    "Sep": "September", "Sept": "September", "Oct": "October", "Nov": "November", "Dec": "December",
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Thu": "Thursday", "Thurs": "Thursday", "Fri": "Friday",
}  # fmt: skip
# These never end a sentence.
NEVER_LAST = {"vs", "v", "cf", "approx", "Approx", "e.g", "E.g", "i.e", "I.e"}
UNDOTTED = {
    "vs": "versus", "Vs": "versus", "aka": "also known as", "AKA": "also known as", "BTW": "by the way",
    "IMO": "in my opinion", "TBD": "to be determined", "w/": "with", "w/o": "without", "b/c": "because",
    "N/A": "not applicable", "n/a": "not applicable", "24/7": "twenty four seven", "9/11": "nine eleven",
    "C#": "C sharp", "F#": "F sharp", "PhD": "P.H.D", "PhDs": "P.H.Ds", "Ph.D": "P.H.D",
}  # fmt: skip

# With a full stop, before a number.
NUMBERED = {
    "No": "Number", "no": "number", "Nos": "Numbers", "nos": "numbers", "p": "page", "pp": "pages", "vol": "volume",
    "Vol": "Volume", "fig": "figure", "Fig": "Figure", "Figs": "Figures", "figs": "figures", "ch": "chapter",
    "Ch": "Chapter", "sec": "section", "Sec": "Section", "art": "article", "Art": "Article", "eq": "equation",
    "Eq": "Equation", "ver": "version", "ext": "extension", "Ext": "Extension", "Apt": "Apartment",
    "apt": "apartment", "Ste": "Suite", "Rm": "Room", "est": "established", "Est": "Established", "ca": "circa",
    "Mar": "March", "Wed": "Wednesday", "Sat": "Saturday", "Sun": "Sunday", "Rs": "rupees", "Op": "Opus",
    "op": "opus", "tel": "telephone", "Tel": "Telephone", "Rte": "Route",
}  # fmt: skip

MONTHS = {
    "Jan": "January", "Feb": "February", "Mar": "March", "Apr": "April", "Jun": "June", "Jul": "July",
    "Aug": "August", "Sep": "September", "Sept": "September", "Oct": "October", "Nov": "November", "Dec": "December",
}  # fmt: skip
MONTHS |= {name: name for name in MONTHS.values()} | {"May": "May"}
DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thur": "Thursday",
    "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
WORDS_TOO = {"Mar", "May", "Jan", "Jun", "Mon", "Wed", "Sat", "Sun"}  # months and days only where a date is about

# After a number: one, several.
UNITS = {
    "km": ("kilometer", "kilometers"), "m": ("meter", "meters"), "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"), "nm": ("nanometer", "nanometers"), "µm": ("micrometer", "micrometers"),
    "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"), "mg": ("milligram", "milligrams"),
    "µg": ("microgram", "micrograms"), "mcg": ("microgram", "micrograms"), "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"), "ft": ("foot", "feet"), "mi": ("mile", "miles"),
    "yd": ("yard", "yards"), "yds": ("yard", "yards"), "ml": ("milliliter", "milliliters"),
    "mL": ("milliliter", "milliliters"), "cl": ("centiliter", "centiliters"), "L": ("liter", "liters"),
    "l": ("liter", "liters"), "gal": ("gallon", "gallons"), "pt": ("pint", "pints"), "tsp": ("teaspoon", "teaspoons"),
    "tbsp": ("tablespoon", "tablespoons"), "ha": ("hectare", "hectares"), "cc": ("cubic centimeter",) * 2,
    "m²": ("square meter", "square meters"), "m2": ("square meter", "square meters"),
    "m³": ("cubic meter", "cubic meters"), "m3": ("cubic meter", "cubic meters"),
    "km²": ("square kilometer", "square kilometers"), "km2": ("square kilometer", "square kilometers"),
    "cm²": ("square centimeter", "square centimeters"), "cm³": ("cubic centimeter", "cubic centimeters"),
    "ft²": ("square foot", "square feet"), "mi²": ("square mile", "square miles"),
    "mph": ("mile per hour", "miles per hour"), "kph": ("kilometer per hour", "kilometers per hour"),
    "km/h": ("kilometer per hour", "kilometers per hour"), "kmh": ("kilometer per hour", "kilometers per hour"),
    "m/s": ("meter per second", "meters per second"), "m/s²": ("meter per second squared",
    "meters per second squared"), "mi/h": ("mile per hour", "miles per hour"),
    "Hz": ("hertz",) * 2, "kHz": ("kilohertz",) * 2, "MHz": ("megahertz",) * 2, "GHz": ("gigahertz",) * 2,
    "KB": ("kilobyte", "kilobytes"), "kB": ("kilobyte", "kilobytes"), "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"), "TB": ("terabyte", "terabytes"), "PB": ("petabyte", "petabytes"),
    "kbps": ("kilobit per second", "kilobits per second"), "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"), "kbit/s": ("kilobit per second", "kilobits per second"),
    "h": ("hour", "hours"), "hr": ("hour", "hours"), "hrs": ("hour", "hours"), "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"), "s": ("second", "seconds"), "sec": ("second", "seconds"),
    "secs": ("second", "seconds"), "ms": ("millisecond", "milliseconds"), "µs": ("microsecond", "microseconds"),
    "ns": ("nanosecond", "nanoseconds"), "yr": ("year", "years"), "yrs": ("year", "years"),
    "W": ("watt", "watts"), "kW": ("kilowatt", "kilowatts"), "MW": ("megawatt", "megawatts"),
    "GW": ("gigawatt", "gigawatts"), "kWh": ("kilowatt hour", "kilowatt hours"), "V": ("volt", "volts"),
    "mV": ("millivolt", "millivolts"), "kV": ("kilovolt", "kilovolts"), "mA": ("milliamp", "milliamps"),
    "mAh": ("milliamp hour", "milliamp hours"), "Ω": ("ohm", "ohms"), "dB": ("decibel", "decibels"),
    "Pa": ("pascal", "pascals"), "kPa": ("kilopascal", "kilopascals"), "hPa": ("hectopascal", "hectopascals"),
    "psi": ("pound per square inch", "pounds per square inch"), "cal": ("calorie", "calories"),
    "kcal": ("kilocalorie", "kilocalories"), "kJ": ("kilojoule", "kilojoules"), "J": ("joule", "joules"),
    "N": ("newton", "newtons"), "bpm": ("beats per minute",) * 2, "rpm": ("revolutions per minute",) * 2,
    "fps": ("frames per second",) * 2, "px": ("pixel", "pixels"), "MP": ("megapixel", "megapixels"),
    "%": ("percent",) * 2, "pct": ("percent",) * 2, "‰": ("per mille",) * 2, "°": ("degree", "degrees"),
    "°C": ("degree Celsius", "degrees Celsius"), "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "ºC": ("degree Celsius", "degrees Celsius"), "ºF": ("degree Fahrenheit", "degrees Fahrenheit"),
    "℃": ("degree Celsius", "degrees Celsius"), "℉": ("degree Fahrenheit", "degrees Fahrenheit"),
    "K": ("kelvin", "kelvins"), "x": ("time", "times"), "¢": ("cent", "cents"),
}  # fmt: skip
# Units without a number before them too: "750 million km", "the price per kg".
ALONE = {
    "km", "kg", "cm", "mm", "mg", "ml", "mL", "kHz", "MHz", "GHz", "GB", "MB", "TB", "kB", "kW", "kWh", "km/h", "kph",
    "lbs", "yds", "tsp", "tbsp", "hrs", "mins", "km²", "m²", "cm²", "m³", "kcal", "kPa", "hPa", "Mbps", "Gbps",
}  # fmt: skip
# One letter that a number is as likely to be named with ("5G", "a 10K run"): units only where written apart or small.
NAMES_WHEN_JOINED = {"K", "V", "W", "N", "J", "MP", "s", "L"}

CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "", ""), "₹": ("rupee", "rupees", "paisa", "paise"),
    "₩": ("won", "won", "", ""), "₽": ("ruble", "rubles", "kopek", "kopeks"), "₺": ("lira", "lira", "", ""),
    "₿": ("bitcoin", "bitcoins", "", ""), "₪": ("shekel", "shekels", "", ""), "฿": ("baht", "baht", "", ""),
}  # fmt: skip
CURRENCY_CODES = {
    "USD": ("US dollar", "US dollars", "cent", "cents"), "EUR": CURRENCIES["€"], "GBP": CURRENCIES["£"],
    "JPY": CURRENCIES["¥"], "INR": CURRENCIES["₹"], "CHF": ("Swiss franc", "Swiss francs", "", ""),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"), "CNY": ("yuan", "yuan", "", ""),
    "AUD": ("Australian dollar", "Australian dollars", "cent", "cents"), "Rs": CURRENCIES["₹"],
}  # fmt: skip
COUNTRIES = {"US": "US", "C": "Canadian", "CA": "Canadian", "A": "Australian", "AU": "Australian", "NZ": "New Zealand"}
MAGNITUDES = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "mm": "million", "MM": "million",
    "b": "billion", "B": "billion", "bn": "billion", "t": "trillion", "T": "trillion", "tn": "trillion",
}  # fmt: skip
MAGNITUDES |= {name: name for name in ("hundred", "thousand", "million", "billion", "trillion", "quadrillion")}

SYMBOLS = {
    "&": "and", "@": "at", "#": "hash", "%": "percent", "+": "plus", "=": "equals", "<": "is less than",
    ">": "is greater than", "~": "tilde", "^": "to the power of", "/": "slash", "\\": "backslash", "*": "star", "_": "",
    "|": ",", "°": "degrees", "º": "degrees", "©": "copyright", "§": "section", "¶": "paragraph",
    "±": "plus or minus", "×": "times", "·": "", "÷": "divided by", "→": "to", "⇒": "to", "½": "one half",
    "¼": "one quarter", "¾": "three quarters", "⅓": "one third", "⅔": "two thirds", "⅛": "one eighth",
    "µ": "micro", "√": "square root of", "∞": "infinity", "≈": "is about", "≠": "is not equal to",
    "≤": "is at most", "≥": "is at least", "‰": "per mille", "№": "number", "−": "minus",
    "¢": "cents", "$": "dollar", "£": "pound", "€": "euro", "¥": "yen", "₹": "rupee", "₿": "bitcoin",
    "♯": "sharp", "♭": "flat", "…": "…", "—": "—", ",": ",", ";": ";", ":": ":", "!": "!", "?": "?",
}  # fmt: skip
ADDRESS_SYMBOLS = SYMBOLS | {
    ".": "dot", "-": "dash", "–": "dash", "_": "underscore", ":": "colon", "?": "question mark", ",": "comma",
    ";": "semicolon", "!": "exclamation mark", "'": "apostrophe", "°": "degrees", "|": "bar",
}  # fmt: skip

# Before a Roman numeral that counts, and names before one that tells which of that name.
COUNTED = {
    "Chapter", "Part", "Act", "Scene", "Section", "Volume", "Book", "Phase", "Article", "War", "Mark", "Type", "Level",
    "Stage", "Class", "Grade", "Bowl", "Apollo", "Gemini", "Fantasy", "Episode", "Round", "Rocky", "Appendix",
    "Figure", "Table", "Title", "Unit", "Lesson", "Canto", "Division", "Tier", "Schedule", "Exhibit", "Psalm",
    "Number", "Page", "Pages", "Category", "Factor", "Symphony", "Sonata", "Module", "Step", "Amendment",
}  # fmt: skip
RULERS = {
    "Henry", "Louis", "Edward", "George", "William", "Charles", "James", "Richard", "Elizabeth", "Napoleon", "Pius",
    "Benedict", "Leo", "Paul", "Ramses", "Ramesses", "Frederick", "Philip", "Alexander", "Nicholas", "Peter",
    "Catherine", "Ivan", "Umberto", "Emmanuel", "Emanuel", "Gustav", "Gustavus", "Christian", "Ferdinand", "John",
    "Mary", "Gregory", "Clement", "Innocent", "Urban", "Otto", "Albert", "Leopold", "Darius", "Xerxes", "Cyrus",
    "Ptolemy", "Thutmose", "Amenhotep", "Seti", "Juan", "Carlos", "Felipe", "Alfonso", "Pedro", "Francis", "Joseph",
    "Wilhelm", "Friedrich", "Ludwig", "Haakon", "Harald", "Olaf", "Margrethe", "Robert", "David", "Stephen",
    "Rama", "Sixtus", "Boniface", "Adrian", "Julius", "Constantine", "Basil", "Michael", "Murad", "Mehmed", "Selim",
    "Suleiman", "Abdulhamid", "Abdullah", "Hussein", "Hassan", "Mohammed", "Baldwin", "Conrad", "Rudolf", "Maximilian",
    "Thomas", "Walter", "Samuel", "Arthur", "Franz", "Karl", "Catharine", "Katherine", "Wilhelmina", "Theodosius",
}  # fmt: skip
CROWNS = {"King", "Queen", "Pope", "Emperor", "Empress", "Tsar", "Czar", "Kaiser", "Sultan", "Prince", "Pharaoh"}
# After a ruler's number these begin a sentence, so that the number is no initial of a name: "Henry V. Then".
SENTENCE_STARTS = {
    "A", "An", "The", "Then", "There", "This", "That", "These", "Those", "He", "She", "It", "They", "We", "You",
    "I", "His", "Her", "Its", "Their", "In", "On", "At", "By", "For", "From", "After", "Before", "When", "While",
    "As", "But", "And", "Or", "So", "If", "What", "Who", "Where", "Why", "How", "Is", "Was", "Did", "Do", "Does",
    "Some", "Many", "Both", "All",
}  # fmt: skip
# After "Part I" at the head of a sentence these say that "I" is the speaker.
SPEAKER_VERBS = {
    "am", "have", "had", "do", "did", "like", "liked", "love", "loved", "want", "wanted", "think", "thought", "read",
    "wrote", "played", "play", "know", "knew", "need", "needed", "saw", "see", "mean", "meant", "will", "would", "can",
    "could", "should", "must", "might", "bought", "got", "took", "take", "went", "told", "said", "say", "hate",
}  # fmt: skip
LETTERED = COUNTED | {"Vitamin", "vitamin", "Plan", "Option", "Team", "Group", "Building", "Hepatitis", "hepatitis"}
DIALLED = {"call", "dial", "phone", "ring", "text", "code", "pin", "zip", "extension", "dialing", "calling", "password"}
