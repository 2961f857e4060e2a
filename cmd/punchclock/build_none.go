//go:build !man

package main

import "github.com/spf13/cobra"

// buildCommands are the verbs that only making a package needs: none on a device.
func buildCommands(*tool) []*cobra.Command { return nil }
