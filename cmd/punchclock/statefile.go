package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// replaceJSON replaces a small file of the state directory as a whole: after a power
// cut there is the old one or the new one. When it returns nil, the new one is on the
// medium.
func replaceJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return replaceFile(path, append(b, '\n'))
}

// replaceFile is replaceJSON for any text.
func replaceFile(path string, b []byte) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// readJSONFile reads what replaceJSON wrote.
func readJSONFile(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
