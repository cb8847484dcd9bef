{{- define "tunesmith.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end -}}
{{- end -}}

{{- define "tunesmith.selector" -}}
app.kubernetes.io/name: tunesmith
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "tunesmith.labels" -}}
{{ include "tunesmith.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "tunesmith.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /*
The Secret with the certificate for progress; empty where there is none. Without a cluster to look into (helm template)
Helm has no Secret to keep, and what it made would be in the rendered files.
*/ -}}
{{- define "tunesmith.certificate" -}}
{{- if .Values.progress.secretName }}{{ .Values.progress.secretName }}
{{- else if lookup "v1" "Namespace" "" "kube-system" }}{{ include "tunesmith.name" . }}-tls
{{- end -}}
{{- end -}}

{{- /* The port of an address: its own, else that of its scheme. */ -}}
{{- define "tunesmith.portOf" -}}
{{- $address := urlParse . }}
{{- $port := regexFind ":[0-9]+$" $address.host | trimPrefix ":" }}
{{- if $port }}{{ $port }}{{ else if eq $address.scheme "http" }}80{{ else }}443{{ end -}}
{{- end -}}

{{- define "tunesmith.storePort" -}}
{{ include "tunesmith.portOf" (dig "endpoint" "" (.Values.config.store | default dict) | default "https://amazon") }}
{{- end -}}

{{- /* Peers: every address but those that nobody is to reach (the cloud's metadata service). */ -}}
{{- define "tunesmith.anywhere" -}}
{{- with .Values.networkPolicies.outside -}}
- ipBlock:
    cidr: 0.0.0.0/0
    {{- with .except }}
    except: {{- toYaml . | nindent 4 }}
    {{- end }}
- ipBlock:
    cidr: ::/0
    {{- with .exceptIPv6 }}
    except: {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end -}}

{{- /* Egress to DNS, which may run on the node itself (NodeLocal DNSCache). */ -}}
{{- define "tunesmith.toNames" -}}
- ports:
  {{- range .Values.networkPolicies.dnsPorts }}
  - {protocol: UDP, port: {{ . }}}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
{{- end -}}

{{- /* Egress to the proxies of config.network, wherever they are; nothing where there is none. */ -}}
{{- define "tunesmith.toProxies" -}}
{{- $network := .Values.config.network | default dict }}
{{- range $name := list "httpsProxy" "httpProxy" }}
{{- with get $network $name }}
- ports: [{protocol: TCP, port: {{ include "tunesmith.portOf" . }}}]
{{- end }}
{{- end }}
{{- end -}}

{{- /* Egress to DNS and the store. */ -}}
{{- define "tunesmith.toStore" -}}
{{ include "tunesmith.toNames" . }}
- ports:
  {{- range .Values.networkPolicies.store.ports | default (list (include "tunesmith.storePort" . | int)) }}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
  to:
    {{- if .Values.networkPolicies.store.to }}
    {{- toYaml .Values.networkPolicies.store.to | nindent 4 }}
    {{- else }}
    {{- include "tunesmith.anywhere" . | nindent 4 }}
    {{- end }}
{{- include "tunesmith.toProxies" . }}
{{- end -}}

{{- define "tunesmith.config" -}}
{{- $own := dict }}
{{- if .Values.priorityClasses.enabled }}
{{- $name := include "tunesmith.name" . }}
{{- $_ := set $own "priorityClasses" (dict "above" (printf "%s-above" $name) "below" (printf "%s-below" $name)) }}
{{- end }}
{{- with .Values.notifications }}
{{- if .url }}
{{- $told := dict "url" .url }}
{{- if .secretName }}{{ $_ := set $told "keyFile" "/etc/tunesmith-notifications/key" }}{{ end }}
{{- if .stuckSeconds }}{{ $_ := set $told "stuckSeconds" (int .stuckSeconds) }}{{ end }}
{{- $_ := set $own "notifications" $told }}
{{- end }}
{{- end }}
{{- if .Values.progress.enabled }}
{{- $progress := dict }}
{{- $certificate := include "tunesmith.certificate" . }}
{{- $scheme := ternary "https" "http" (ne $certificate "") }}
{{- $_ := set $progress "url" (printf "%s://%s.%s.svc:8443/" $scheme (include "tunesmith.name" .) .Release.Namespace) }}
{{- if $certificate }}{{ $_ := set $progress "certificates" "/etc/tunesmith-tls" }}{{ end }}
{{- $_ := set $own "progress" $progress }}
{{- end }}
{{- merge (dict) .Values.config $own | toYaml }}
{{- end -}}

{{- /* What the operator may do, each rule for a reason that docs/security.md gives. */ -}}
{{- define "tunesmith.rules" -}}
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs]
  verbs: [list, watch, delete]
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs/status]
  verbs: [patch]
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, list]
{{- end -}}
