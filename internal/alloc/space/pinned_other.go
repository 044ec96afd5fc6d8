//go:build !linux

package space

func explainLock(err error) error { return err }
