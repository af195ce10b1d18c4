{{/* The name of everything in this release. */}}
{{- define "merganser.name" -}}
{{- if contains "merganser" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-merganser" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What the Services choose the pod by. */}}
{{- define "merganser.selector" -}}
app.kubernetes.io/name: merganser
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "merganser.labels" -}}
{{ include "merganser.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "merganser.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The settings as TOML. JSON's strings, numbers and booleans are TOML's, and keep a whole number whole. */}}
{{- define "merganser.toml" -}}
{{- range $section, $settings := .Values.config }}
[{{ $section }}]
{{- range $key, $value := $settings }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{ end }}
{{- end -}}

{{/* What pods may do: the "restricted" standard of Kubernetes, and a root file system that nobody writes to. */}}
{{- define "merganser.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "merganser.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
