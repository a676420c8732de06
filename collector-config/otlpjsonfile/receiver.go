// Package otlpjsonfile reads OTLP-JSON lines from files, with the id and the keys of the contrib
// receiver otlp_json_file, for builds whose module registry does not hold that receiver.
//
// It owns the step from a line to a signal and nothing else: finding files, knowing them again,
// offsets and rotation belong to fileconsumer, the JSON to pdata, as they do in contrib.
package otlpjsonfile

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/stanza/adapter"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/stanza/fileconsumer"
)

// Config is the file consumer's, and the id of the extension that keeps its offsets.
type Config struct {
	fileconsumer.Config `mapstructure:",squash"`
	StorageID           *component.ID `mapstructure:"storage"`
}

// NewFactory makes one receiver for each signal that a pipeline asks for.
func NewFactory() receiver.Factory {
	return receiver.NewFactory(
		component.MustNewType("otlp_json_file"),
		func() component.Config { return &Config{Config: *fileconsumer.NewConfig()} },
		receiver.WithTraces(traces, component.StabilityLevelAlpha),
		receiver.WithMetrics(metrics, component.StabilityLevelAlpha),
		receiver.WithLogs(logs, component.StabilityLevelAlpha),
	)
}

func traces(_ context.Context, set receiver.Settings, config component.Config, next consumer.Traces) (receiver.Traces, error) {
	parser := &ptrace.JSONUnmarshaler{}
	return follow(set, config, func(ctx context.Context, line []byte) error {
		data, err := parser.UnmarshalTraces(line)
		if err != nil || data.ResourceSpans().Len() == 0 {
			return err
		}
		return next.ConsumeTraces(ctx, data)
	})
}

func metrics(_ context.Context, set receiver.Settings, config component.Config, next consumer.Metrics) (receiver.Metrics, error) {
	parser := &pmetric.JSONUnmarshaler{}
	return follow(set, config, func(ctx context.Context, line []byte) error {
		data, err := parser.UnmarshalMetrics(line)
		if err != nil || data.ResourceMetrics().Len() == 0 {
			return err
		}
		return next.ConsumeMetrics(ctx, data)
	})
}

func logs(_ context.Context, set receiver.Settings, config component.Config, next consumer.Logs) (receiver.Logs, error) {
	parser := &plog.JSONUnmarshaler{}
	return follow(set, config, func(ctx context.Context, line []byte) error {
		data, err := parser.UnmarshalLogs(line)
		if err != nil || data.ResourceLogs().Len() == 0 {
			return err
		}
		return next.ConsumeLogs(ctx, data)
	})
}

// files is a receiver whose lines go through one function.
type files struct {
	manager *fileconsumer.Manager
	storage *component.ID
	id      component.ID
	release func(context.Context) error
}

func follow(set receiver.Settings, config component.Config, pass func(context.Context, []byte) error) (*files, error) {
	own := config.(*Config)
	// A batch goes on after a bad line: the offset moves past the whole batch in any case.
	emit := func(ctx context.Context, lines [][]byte, _ map[string]any, _ int64, _ []int64) error {
		var failed []error
		for _, line := range lines {
			failed = append(failed, pass(ctx, line))
		}
		return errors.Join(failed...)
	}
	manager, err := own.Build(set.TelemetrySettings, emit)
	if err != nil {
		return nil, err
	}
	return &files{manager: manager, storage: own.StorageID, id: set.ID}, nil
}

// Start opens the offset store and begins to poll.
func (f *files) Start(ctx context.Context, host component.Host) error {
	client, err := adapter.GetStorageClient(ctx, host, f.storage, f.id)
	if err != nil {
		return err
	}
	f.release = client.Close
	return f.manager.Start(client)
}

// Shutdown stops polling, then lets the offset store go.
func (f *files) Shutdown(ctx context.Context) error {
	if f.release == nil {
		return nil
	}
	return errors.Join(f.manager.Stop(), f.release(ctx))
}
