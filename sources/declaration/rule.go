package declaration

import (
	"reflect"
	"strconv"
	"strings"
	"time"
)

// rule is what the jsonschema tag of a field asks for.
type rule struct {
	required bool
	unique   bool
	minItems int
	enum     []string
	format   string
	def      string // "" when there is no default
	min, max string // numbers, or durations in fields of type time.Duration
}

// field is one field that a mapping may have.
type field struct {
	name  string
	value reflect.Value
	rule  rule
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
)

// fieldsOf gives the fields of the struct v in the order of its type.
func fieldsOf(v reflect.Value) []field {
	var fields []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		fields = append(fields, field{name: name, value: v.Field(i), rule: parseRule(f.Tag.Get("jsonschema"))})
	}
	return fields
}

// parseRule reads a tag. A keyword it does not know is a mistake in this package
// that the tests find (see TestTagsAreUnderstood), never a declaration's.
func parseRule(tag string) rule {
	var r rule
	for _, word := range strings.Split(tag, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "":
		case "required":
			r.required = true
		case "uniqueItems":
			r.unique = value == "true"
		case "minItems":
			r.minItems, _ = strconv.Atoi(value)
		case "enum":
			r.enum = append(r.enum, value)
		case "format":
			r.format = value
		case "default":
			r.def = value
		case "minimum":
			r.min = value
		case "maximum":
			r.max = value
		default:
			panic("unknown keyword in jsonschema tag: " + word)
		}
	}
	return r
}

// setDefaults gives every field of the struct v the default of its rule.
func setDefaults(v reflect.Value) {
	for _, f := range fieldsOf(v) {
		switch {
		case f.value.Kind() == reflect.Struct && f.value.Type() != timeType:
			setDefaults(f.value)
		case f.rule.def != "":
			if !setText(f.value, f.rule.def) {
				panic("bad default in jsonschema tag of " + f.name)
			}
		}
	}
}

// setText sets the scalar v from text; false when text is not of v's type.
func setText(v reflect.Value, text string) bool {
	if v.Type() == durationType {
		d, err := time.ParseDuration(text)
		v.SetInt(int64(d))
		return err == nil && durationPattern.MatchString(text)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(text == "true")
		return text == "true" || text == "false"
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, 64)
		v.SetInt(i)
		return err == nil && strconv.FormatInt(i, 10) == text
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		v.SetFloat(f)
		return err == nil
	default:
		panic("unsupported type " + v.Type().String())
	}
	return true
}

// outside gives the bound that the number or duration v breaks, as
// "at least 1s" or "at most 1"; "" when it breaks none.
func (r rule) outside(v reflect.Value) string {
	if r.min != "" && less(v, r.bound(v, r.min)) {
		return "at least " + r.min
	}
	if r.max != "" && less(r.bound(v, r.max), v) {
		return "at most " + r.max
	}
	return ""
}

func (r rule) bound(like reflect.Value, text string) reflect.Value {
	b := reflect.New(like.Type()).Elem()
	if !setText(b, text) {
		panic("bad bound in jsonschema tag: " + text)
	}
	return b
}

func less(a, b reflect.Value) bool {
	if a.Kind() == reflect.Float64 {
		return a.Float() < b.Float()
	}
	return a.Int() < b.Int()
}
